// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_SENDER_OVERFLOW_H
#define DIODECAST_SENDER_OVERFLOW_H

#include <stdbool.h>
#include <stdint.h>

/*
 * How often UDP datagrams found a queue of this machine full. A full queue of the interface drops them and is no error
 * for a socket without IP_RECVERR (ip(7)), and the sender's has none, for it would let ICMP in; so the kernel's counter
 * SndbufErrors is all that tells. It counts for all programs in the network namespace, and also sends that only had to
 * wait for the socket's own buffer. Control thread only.
 */
struct overflow {
    int fd; /* /proc/net/snmp or snmp6; -1 where there is none */
    bool ipv6;
    int questions;         /* or -1: the socket that is asked instead */
    const char *interface; /* then */
};

struct config;
/* When the service manager passes the sockets, those counters are of another network namespace: then it is what the
 * queue of the interface has dropped. `config` is borrowed. */
void overflow_open(struct overflow *overflow, const struct config *config);
void overflow_close(struct overflow *overflow);
/* Since the machine started; 0 when it can't be told. */
uint64_t overflow_total(const struct overflow *overflow);

#endif
