/* SPDX-License-Identifier: BSD-3-Clause */
#include "http_status.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

// 'd' is any digit, 'n' a digit but 0, ' ' a space, 'e' what may follow the status.
static const char form[] = "HTTP/d.d ndde";

static bool matches(char wanted, char byte)
{
	switch (wanted) {
	case 'd':
		return isdigit((unsigned char)byte);
	case 'n':
		return byte >= '1' && byte <= '9';
	case 'e':
		return byte == ' ' || byte == '\r' || byte == '\n';
	default:
		return byte == wanted;
	}
}

static int status_line_parse(const char *data, size_t length)
{
	for (size_t i = 0; i < sizeof(form) - 1; i++) {
		if (i == length)
			return 0;
		if (!matches(form[i], data[i]))
			return -EBADMSG;
	}
	return (data[9] - '0') * 100 + (data[10] - '0') * 10 + data[11] - '0';
}

int http_status_parse(const char *data, size_t length)
{
	for (;;) {
		int status = status_line_parse(data, length);

		if (status <= 0 || status >= 200 || status == 101)
			return status;
		const char *end = memmem(data, length, "\r\n\r\n", 4);
		if (end == NULL)
			return 0;
		length -= end + 4 - data;
		data = end + 4;
	}
}
