// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_DESCRIPTORS_H
#define DIODECAST_COMMON_DESCRIPTORS_H

#include <stddef.h>

#include "common/status.h"

/* Descriptor tables of single threads. All threads of a process share one, until one of them asks for its own. */

enum { DESCRIPTORS_KEPT_MAX = 16 };

/*
 * From here on the calling thread has a table of descriptors of its own, in which there are only standard input, output
 * and error and those of `kept`, under their numbers. What it opens and closes is its own, and so is what others do.
 * Logs and returns STATUS_SYSTEM when the kernel refuses.
 */
MUST_CHECK enum status descriptors_separate(const int kept[], size_t count);
/* Closes a descriptor in the table of the calling thread while another thread uses it under the same number in its own:
 * close(2), but ThreadSanitizer, which knows of one table only, does not see it. */
void descriptors_close(int fd);

#endif
