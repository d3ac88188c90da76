// SPDX-License-Identifier: Apache-2.0
#ifndef DIODECAST_COMMON_SOCKET_H
#define DIODECAST_COMMON_SOCKET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "common/status.h"

/* UDP sockets that are one-way by construction. IPv4 and IPv6. */

struct socket_address {
    struct sockaddr_storage storage;
    socklen_t size;
    char interface[16]; /* of a link-local address, as it was written; "": none, or not known */
};

/* Parses 192.0.2.2:4700, [2001:db8::1]:4700, [fe80::1%eth0]:4700. Numeric only: no resolver. False when malformed or
 * the interface is unknown. */
bool socket_address_parse(const char *text, struct socket_address *address);
/* The same address with `lane` added to its port; false when the port would pass 65535. */
bool socket_address_lane(const struct socket_address *address, unsigned lane, struct socket_address *out);
bool socket_address_is_ipv6(const struct socket_address *address);
uint16_t socket_address_port(const struct socket_address *address);
enum { SOCKET_TEXT_SIZE = 80 };
char *socket_address_text(const struct socket_address *address, char text[static SOCKET_TEXT_SIZE]);

/*
 * Receiver: bound (a port in use is tried again for two seconds), SO_RCVBUF raised to `receive_buffer` as far as
 * allowed
 * (*granted says how far), UDP_GRO, SO_RXQ_OVFL, then shutdown(SHUT_WR), which on an unconnected UDP socket reports
 * ENOTCONN and takes effect all the same; then proven: a send to its own address, or to loopback when it has none, must
 * give EPIPE. Logs and returns STATUS_SYSTEM when a step fails, STATUS_DENIED when the socket could still send.
 */
MUST_CHECK enum status socket_open_receiver(const struct socket_address *address, uint32_t receive_buffer, int *fd,
                                            uint32_t *granted);

/*
 * The same for a socket that is bound already and outlives this process: one that the service manager holds. Applies
 * and proves all of the above again, however often it was done before, and switches off what else would come with the
 * datagrams; never lowers the buffer, which the service manager may have set beyond what this process may. The socket
 * must be unconnected UDP of the family and port of `address`; another host address is told and taken. Takes `fd`:
 * closes it when it fails.
 */
MUST_CHECK enum status socket_adopt_receiver(int fd, const struct socket_address *address, uint32_t receive_buffer,
                                             uint32_t *granted);
/* Whether what waits in the socket leaves at least an eighth of its buffer free. */
bool socket_has_room(int fd);
/* What the kernel has dropped on the socket since it was made: what SO_RXQ_OVFL tells with the next datagram. */
uint32_t socket_drops(int fd);

/*
 * Sender: unconnected, a drop-all classic BPF filter locked by SO_LOCK_FILTER, receive buffer minimal,
 * IP_PMTUDISC_PROBE, SO_SNDBUF raised. Proven: a datagram sent to itself over loopback is not received and the filter
 * can't be taken off.
 */
MUST_CHECK enum status socket_open_sender(const struct socket_address *peer, uint32_t send_buffer, int *fd);

/*
 * The same for a socket that is bound already: one that the service manager made, of the family of `peer`. What it has
 * received before it was here is thrown away, and nothing more is. Takes `fd`: closes it when it fails.
 */
MUST_CHECK enum status socket_adopt_sender(int fd, const struct socket_address *peer, uint32_t send_buffer);

/* MTU of the route to `peer` and the name of its interface (IFNAMSIZ bytes), by connecting a probe socket that sends
 * nothing. */
MUST_CHECK enum status socket_route(const struct socket_address *peer, uint32_t *mtu, char interface[static 16]);

#endif
