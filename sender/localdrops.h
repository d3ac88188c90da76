// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_LOCALDROPS_H
#define DIODECAST_SENDER_LOCALDROPS_H

#include <stdbool.h>
#include <stdint.h>

/*
 * UDP datagrams that this machine dropped after the socket had taken them. A full queue of the interface is no error
 * for a socket without IP_RECVERR (ip(7)), and the sender has none, for it would let ICMP in; so the kernel's counter
 * SndbufErrors is all that tells of them. It counts for all programs in the network namespace. Control thread only.
 */
struct localdrops {
    int fd; /* /proc/net/snmp or snmp6; -1 where there is none */
    bool ipv6;
};

void localdrops_open(struct localdrops *drops, bool ipv6);
void localdrops_close(struct localdrops *drops);
/* Since the machine started; 0 when it can't be told. */
uint64_t localdrops_total(const struct localdrops *drops);

#endif
