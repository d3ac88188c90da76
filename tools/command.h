// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_TOOLS_COMMAND_H
#define DIODECAST_TOOLS_COMMAND_H

/*
 * The commands of `diodecast`. argv[0] is the command's name; the result is the exit code, by sysexits(3). What was
 * asked for goes to standard output, what went wrong to standard error (common/log.h).
 */
int command_accept_loss(int argc, char **argv);
int command_audit(int argc, char **argv);
int command_inspect(int argc, char **argv);
int command_key(int argc, char **argv);
int command_keygen(int argc, char **argv);
int command_log_name(int argc, char **argv);
int command_put(int argc, char **argv);
int command_quarantine(int argc, char **argv);
int command_replay(int argc, char **argv);
int command_sign(int argc, char **argv);
int command_status(int argc, char **argv);
int command_ticket(int argc, char **argv);
int command_verify(int argc, char **argv);

/* Prints how command `name` is used to standard error; returns EX_USAGE. */
int command_usage(const char *name);

#endif
