/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef WEIR_HTTP_STATUS_H
#define WEIR_HTTP_STATUS_H

#include <stddef.h>

/*
 * Read the status of an HTTP/1 response from its first `length` bytes (RFC 9112, section 4): 100 to
 * 999; 0 = more bytes are needed; -EBADMSG = this is no HTTP response. Says so at the first byte
 * that decides. Interim responses (1xx, but for 101) are passed over.
 */
int http_status_parse(const char *data, size_t length);

#endif
