// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_AUDIT_H
#define DIODECAST_TOOLS_AUDIT_H

/* The parts of `diodecast audit`; argv[0] is the part's name, the result the exit code. */
int audit_verify(int argc, char **argv);
int audit_show(int argc, char **argv);
int audit_join(int argc, char **argv);

#endif
