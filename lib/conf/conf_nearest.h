/* SPDX-License-Identifier: BSD-3-Clause */
/* "Did you mean": the name that a mistyped one is nearest to. */
#ifndef WEIR_CONF_NEAREST_H
#define WEIR_CONF_NEAREST_H

/* Return the one of `names` that the fewest edits (a letter added, lost, changed, or two swapped)
 * turn into `text`; NULL when it takes more than two, or more than a third of the letters. */
const char *conf_nearest(const char *text, const char *const *names, unsigned nb_names);

#endif
