// SPDX-License-Identifier: Apache-2.0
#include "common/socket.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"

enum { PROOF_TIMEOUT_MS = 1000, DISCARD_PORT = 9, BIND_TRIES = 40, BIND_PAUSE_MS = 50 };

_Static_assert(IF_NAMESIZE == 16, "socket_route() hands out names of 16 bytes");

static struct sockaddr_in *ipv4_of(struct socket_address *address)
{
    return (struct sockaddr_in *)&address->storage;
}

static struct sockaddr_in6 *ipv6_of(struct socket_address *address)
{
    return (struct sockaddr_in6 *)&address->storage;
}

bool socket_address_is_ipv6(const struct socket_address *address)
{
    return address->storage.ss_family == AF_INET6;
}

static in_port_t port_of(const struct socket_address *address)
{
    struct socket_address copy = *address;
    return ntohs(socket_address_is_ipv6(&copy) ? ipv6_of(&copy)->sin6_port : ipv4_of(&copy)->sin_port);
}

uint16_t socket_address_port(const struct socket_address *address)
{
    return port_of(address);
}

static void set_port(struct socket_address *address, in_port_t port)
{
    if (socket_address_is_ipv6(address))
        ipv6_of(address)->sin6_port = htons(port);
    else
        ipv4_of(address)->sin_port = htons(port);
}

static bool parse_port(const char *text, in_port_t *port)
{
    unsigned value = 0;
    if (*text == '\0' || strlen(text) > 5)
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return false;
        value = value * 10 + (unsigned)(*text - '0');
    }
    *port = (in_port_t)value;
    return value <= 65535;
}

/* "2001:db8::1" or "fe80::1%eth0"; a link-local address without its interface names no machine. */
static bool parse_ipv6(char *text, struct socket_address *address)
{
    struct sockaddr_in6 *ipv6 = ipv6_of(address);
    char *scope = strchr(text, '%');
    if (scope != NULL)
        *scope++ = '\0';
    if (inet_pton(AF_INET6, text, &ipv6->sin6_addr) != 1)
        return false;
    if (scope != NULL)
        ipv6->sin6_scope_id = if_nametoindex(scope);
    bool needs_scope = IN6_IS_ADDR_LINKLOCAL(&ipv6->sin6_addr);
    if (needs_scope ? ipv6->sin6_scope_id == 0 : scope != NULL)
        return false;
    if (needs_scope)
        snprintf(address->interface, sizeof address->interface, "%s", scope);
    ipv6->sin6_family = AF_INET6;
    address->size = sizeof *ipv6;
    return true;
}

bool socket_address_parse(const char *text, struct socket_address *address)
{
    char host[SOCKET_TEXT_SIZE];
    bool bracketed = text[0] == '[';
    const char *start = text + bracketed;
    const char *end = bracketed ? strchr(start, ']') : strchr(start, ':');
    if (end == NULL || (size_t)(end - start) >= sizeof host)
        return false;
    memcpy(host, start, (size_t)(end - start));
    host[end - start] = '\0';
    end += bracketed;
    in_port_t port = 0;
    if (*end != ':' || !parse_port(end + 1, &port))
        return false;

    memset(address, 0, sizeof *address);
    if (bracketed) {
        if (!parse_ipv6(host, address))
            return false;
    } else {
        struct sockaddr_in *ipv4 = ipv4_of(address);
        if (inet_pton(AF_INET, host, &ipv4->sin_addr) != 1)
            return false;
        ipv4->sin_family = AF_INET;
        address->size = sizeof *ipv4;
    }
    set_port(address, port);
    return true;
}

bool socket_address_lane(const struct socket_address *address, unsigned lane, struct socket_address *out)
{
    unsigned port = port_of(address) + lane;
    if (lane > 65535 || port > 65535)
        return false;
    *out = *address;
    set_port(out, (in_port_t)port);
    return true;
}

char *socket_address_text(const struct socket_address *address, char text[static SOCKET_TEXT_SIZE])
{
    struct socket_address copy = *address;
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = port_of(address);
    if (!socket_address_is_ipv6(address)) {
        inet_ntop(AF_INET, &ipv4_of(&copy)->sin_addr, host, sizeof host);
        snprintf(text, SOCKET_TEXT_SIZE, "%s:%u", host, port);
        return text;
    }
    struct sockaddr_in6 *ipv6 = ipv6_of(&copy);
    char interface[IF_NAMESIZE] = "";
    inet_ntop(AF_INET6, &ipv6->sin6_addr, host, sizeof host);
    if (address->interface[0] != '\0')
        memcpy(interface, address->interface, sizeof interface); /* known without asking the kernel over a socket */
    else if (ipv6->sin6_scope_id != 0 && if_indextoname(ipv6->sin6_scope_id, interface) == NULL)
        snprintf(interface, sizeof interface, "%u", ipv6->sin6_scope_id);
    snprintf(text, SOCKET_TEXT_SIZE, "[%s%s%s]:%u", host, interface[0] != '\0' ? "%" : "", interface, port);
    return text;
}

/* ::1 or 127.0.0.1 of the family of `like`. */
static void loopback_address(const struct socket_address *like, in_port_t port, struct socket_address *address)
{
    memset(address, 0, sizeof *address);
    address->storage.ss_family = like->storage.ss_family;
    address->size = like->size;
    if (socket_address_is_ipv6(like))
        ipv6_of(address)->sin6_addr = in6addr_loopback;
    else
        ipv4_of(address)->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    set_port(address, port);
}

static bool is_wildcard(const struct socket_address *address)
{
    if (!socket_address_is_ipv6(address))
        return ((const struct sockaddr_in *)&address->storage)->sin_addr.s_addr == htonl(INADDR_ANY);
    return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&address->storage)->sin6_addr);
}

/* Where a socket bound to `bound` tries to send: to this host only. Loopback can't be reached from a link-local one. */
static void proof_target(const struct socket_address *bound, struct socket_address *target)
{
    if (is_wildcard(bound)) {
        loopback_address(bound, DISCARD_PORT, target);
        return;
    }
    *target = *bound;
    set_port(target, DISCARD_PORT);
}

static enum status fail_and_close(int fd, const struct socket_address *address, const char *what)
{
    int error = errno;
    char text[SOCKET_TEXT_SIZE];
    log_error("UDP socket for %s: %s: %s", socket_address_text(address, text), what, strerror(error));
    if (fd >= 0)
        close(fd);
    errno = error;
    return STATUS_SYSTEM;
}

static bool set_int(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

/* Raises SO_RCVBUF or SO_SNDBUF: beyond net.core.{r,w}mem_max with CAP_NET_ADMIN, else as far as that allows. The
 * kernel stores and reports the double of what is asked, for its own overhead. */
static bool raise_buffer(int fd, int option, int force_option, uint32_t bytes, uint32_t *granted)
{
    int wanted = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes;
    if (!set_int(fd, SOL_SOCKET, force_option, wanted) && !set_int(fd, SOL_SOCKET, option, wanted))
        return false;
    int stored = 0;
    socklen_t size = sizeof stored;
    if (getsockopt(fd, SOL_SOCKET, option, &stored, &size) != 0)
        return false;
    if (granted != NULL)
        *granted = (uint32_t)stored / 2;
    return true;
}

static enum status bind_failure(int fd, const struct socket_address *address)
{
    switch (errno) {
    case EADDRINUSE:
        return fail_and_close(fd, address, "can't listen, another program has this port");
    case EADDRNOTAVAIL:
        return fail_and_close(fd, address, "can't listen, this machine does not have that address (see 'ip address')");
    case EACCES:
        return fail_and_close(fd, address, "can't listen, ports below 1024 need CAP_NET_BIND_SERVICE");
    default:
        return fail_and_close(fd, address, "can't listen");
    }
}

/* A receiver that was killed holds its port some milliseconds longer, until the kernel has ended its ring; there is
 * nothing to wait for that tells when. */
static bool bind_patiently(int fd, const struct socket_address *address)
{
    for (unsigned tries = 1;; tries++) {
        if (bind(fd, (const struct sockaddr *)&address->storage, address->size) == 0)
            return true;
        if (errno != EADDRINUSE || tries == BIND_TRIES)
            return false;
        (void)poll(NULL, 0, BIND_PAUSE_MS);
    }
}

static bool same_host(const struct sockaddr *a, const struct sockaddr *b)
{
    if (a == NULL || a->sa_family != b->sa_family)
        return false;
    if (a->sa_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr == ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return a->sa_family == AF_INET6 && IN6_ARE_ADDR_EQUAL(&((const struct sockaddr_in6 *)a)->sin6_addr,
                                                          &((const struct sockaddr_in6 *)b)->sin6_addr);
}

/* What comes with each datagram: the kernel's count of drops, and the segment size of what it coalesced. */
static bool want_control(int fd, const char **what)
{
    *what = "SO_RXQ_OVFL";
    if (!set_int(fd, SOL_SOCKET, SO_RXQ_OVFL, 1))
        return false;
    *what = "UDP_GRO";
    return set_int(fd, IPPROTO_UDP, UDP_GRO, 1);
}

/* Shuts the socket for sending and proves it. */
static enum status shut_and_prove(int fd, const struct socket_address *address)
{
    /* ENOTCONN is what an unconnected socket reports; that it took effect is seen below. */
    if (shutdown(fd, SHUT_WR) != 0 && errno != ENOTCONN)
        return fail_and_close(fd, address, "shutdown");

    struct socket_address target;
    proof_target(address, &target);
    ssize_t sent = sendto(fd, "", 0, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&target.storage, target.size);
    if (sent >= 0 || errno != EPIPE) {
        char text[SOCKET_TEXT_SIZE];
        log_error("UDP socket for %s: can still send after shutdown(SHUT_WR) (%s); refusing to listen with it",
                  socket_address_text(address, text), sent >= 0 ? "a datagram left" : strerror(errno));
        close(fd);
        return STATUS_DENIED;
    }
    return STATUS_OK;
}

enum status socket_open_receiver(const struct socket_address *address, uint32_t receive_buffer, int *fd,
                                 uint32_t *granted)
{
    const char *what;
    *fd = -1;
    int made = socket(address->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0)
        return fail_and_close(made, address, "can't be made");
    if (socket_address_is_ipv6(address) && !set_int(made, IPPROTO_IPV6, IPV6_V6ONLY, 1))
        return fail_and_close(made, address, "IPV6_V6ONLY");
    if (!raise_buffer(made, SO_RCVBUF, SO_RCVBUFFORCE, receive_buffer, granted))
        return fail_and_close(made, address, "SO_RCVBUF");
    if (!want_control(made, &what))
        return fail_and_close(made, address, what);
    if (!bind_patiently(made, address))
        return bind_failure(made, address);
    enum status status = shut_and_prove(made, address);
    if (status == STATUS_OK)
        *fd = made;
    return status;
}

static bool get_int(int fd, int level, int option, int *value)
{
    socklen_t size = sizeof *value;
    return getsockopt(fd, level, option, value, &size) == 0;
}

/* Whether SO_RCVBUF would give more than `stored`, tried on a socket that matters to nobody. */
static bool would_raise(int wanted, int stored)
{
    int value = 0;
    int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return false;
    bool raises = set_int(probe, SOL_SOCKET, SO_RCVBUF, wanted) && get_int(probe, SOL_SOCKET, SO_RCVBUF, &value) &&
                  value > stored;
    close(probe);
    return raises;
}

static bool raise_passed_buffer(int fd, uint32_t bytes, uint32_t *granted)
{
    int wanted = bytes > INT32_MAX / 2 ? INT32_MAX / 2 : (int)bytes;
    int stored = 0;
    if (!get_int(fd, SOL_SOCKET, SO_RCVBUF, &stored))
        return false;
    if (stored / 2 < wanted && !set_int(fd, SOL_SOCKET, SO_RCVBUFFORCE, wanted) && would_raise(wanted, stored) &&
        !set_int(fd, SOL_SOCKET, SO_RCVBUF, wanted))
        return false;
    if (!get_int(fd, SOL_SOCKET, SO_RCVBUF, &stored))
        return false;
    *granted = (uint32_t)stored / 2;
    return true;
}

/* A socket unit may ask for more to come with each datagram than the receive stage has room for. */
static void unwanted_control(int fd)
{
    static const struct {
        int level, option;
    } unwanted[] = {{SOL_SOCKET, SO_TIMESTAMP},      {SOL_SOCKET, SO_TIMESTAMPNS}, {SOL_SOCKET, SO_TIMESTAMPING},
                    {IPPROTO_IP, IP_PKTINFO},        {IPPROTO_IP, IP_RECVTTL},     {IPPROTO_IP, IP_RECVTOS},
                    {IPPROTO_IPV6, IPV6_RECVPKTINFO}};
    for (size_t i = 0; i < sizeof unwanted / sizeof *unwanted; i++)
        (void)set_int(fd, unwanted[i].level, unwanted[i].option, 0);
}

static enum status refuse_passed(int fd, const struct socket_address *address, const char *what)
{
    char text[SOCKET_TEXT_SIZE];
    log_error("UDP socket for %s, passed by the service manager: %s", socket_address_text(address, text), what);
    close(fd);
    return STATUS_INVALID;
}

enum status socket_adopt_receiver(int fd, const struct socket_address *address, uint32_t receive_buffer,
                                  uint32_t *granted)
{
    const char *what;
    int type = 0;
    int protocol = 0;
    struct socket_address bound = {.size = sizeof bound.storage};
    struct socket_address peer = {.size = sizeof peer.storage};
    if (!get_int(fd, SOL_SOCKET, SO_TYPE, &type) || !get_int(fd, SOL_SOCKET, SO_PROTOCOL, &protocol) ||
        getsockname(fd, (struct sockaddr *)&bound.storage, &bound.size) != 0)
        return fail_and_close(fd, address, "what the service manager passes is no socket");
    if (type != SOCK_DGRAM || protocol != IPPROTO_UDP)
        return refuse_passed(fd, address, "not UDP; the socket unit needs ListenDatagram=");
    if (bound.storage.ss_family != address->storage.ss_family || port_of(&bound) != port_of(address))
        return refuse_passed(fd, address, "of another address family or port");
    if (getpeername(fd, (struct sockaddr *)&peer.storage, &peer.size) == 0)
        return refuse_passed(fd, address, "it is connected, so it takes the datagrams of one source only");
    if (!same_host((struct sockaddr *)&bound.storage, (const struct sockaddr *)&address->storage)) {
        char own[SOCKET_TEXT_SIZE], other[SOCKET_TEXT_SIZE];
        log_warning("the socket passed by the service manager is bound to %s, not to %s: that is where it receives",
                    socket_address_text(&bound, other), socket_address_text(address, own));
    }
    if (!raise_passed_buffer(fd, receive_buffer, granted))
        return fail_and_close(fd, address, "SO_RCVBUF");
    if (!want_control(fd, &what))
        return fail_and_close(fd, address, what);
    unwanted_control(fd);
    return shut_and_prove(fd, &bound);
}

static bool memory_info(int fd, uint32_t values[static SK_MEMINFO_VARS])
{
    socklen_t size = SK_MEMINFO_VARS * sizeof *values;
    memset(values, 0, size);
    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values, &size) == 0;
}

bool socket_has_room(int fd)
{
    uint32_t values[SK_MEMINFO_VARS];
    return memory_info(fd, values) &&
           values[SK_MEMINFO_RMEM_ALLOC] < values[SK_MEMINFO_RCVBUF] - values[SK_MEMINFO_RCVBUF] / 8;
}

uint32_t socket_drops(int fd)
{
    uint32_t values[SK_MEMINFO_VARS];
    return memory_info(fd, values) ? values[SK_MEMINFO_DROPS] : 0;
}

/* Accepts 0 bytes of each packet. */
static const struct sock_filter drop_all = {.code = BPF_RET | BPF_K, .k = 0};

static bool attach_drop_all(int fd)
{
    struct sock_filter code = drop_all;
    struct sock_fprog program = {.len = 1, .filter = &code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 &&
           set_int(fd, SOL_SOCKET, SO_LOCK_FILTER, 1);
}

/* True when the filter that the kernel holds is drop_all, and it refuses to take it off. */
static bool filter_is_locked(int fd)
{
    struct sock_filter code = {.code = 0};
    socklen_t count = 1; /* instructions, not bytes */
    int unused = 0;
    return getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, &code, &count) == 0 && count == 1 &&
           memcmp(&code, &drop_all, sizeof code) == 0 &&
           setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof unused) != 0 && errno == EPERM;
}

static bool local_port(int fd, in_port_t *port)
{
    struct socket_address bound = {.size = sizeof bound.storage};
    if (getsockname(fd, (struct sockaddr *)&bound.storage, &bound.size) != 0)
        return false;
    *port = port_of(&bound);
    return true;
}

/*
 * Sends over loopback one datagram to `fd` itself and then one to a plain witness. Loopback keeps the order, so when
 * the witness has its own, the first was handled too: `fd` must have nothing. Where there is no loopback to send over
 * (lo down in a network namespace), nothing can arrive by it and the locked filter is the proof.
 */
static bool loopback_is_dropped(int fd, const struct socket_address *peer)
{
    bool dropped = true;
    struct socket_address target;
    struct socket_address witness_address;
    in_port_t port = 0;
    loopback_address(peer, 0, &witness_address);
    int witness = socket(peer->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (witness < 0)
        return false;
    if (bind(witness, (struct sockaddr *)&witness_address.storage, witness_address.size) != 0 ||
        !local_port(witness, &port))
        goto cleanup;
    set_port(&witness_address, port);
    if (!local_port(fd, &port)) {
        dropped = false;
        goto cleanup;
    }
    loopback_address(peer, port, &target);
    if (sendto(fd, "1", 1, MSG_DONTWAIT, (struct sockaddr *)&target.storage, target.size) == 1 &&
        sendto(fd, "2", 1, MSG_DONTWAIT, (struct sockaddr *)&witness_address.storage, witness_address.size) == 1) {
        struct pollfd watch = {.fd = witness, .events = POLLIN};
        (void)poll(&watch, 1, PROOF_TIMEOUT_MS);
    }
    char byte = 0;
    ssize_t got = recv(fd, &byte, sizeof byte, MSG_DONTWAIT);
    dropped = got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);

cleanup:
    close(witness);
    return dropped;
}

static enum status refuse_to_send(int fd, const struct socket_address *peer)
{
    char text[SOCKET_TEXT_SIZE];
    log_error("UDP socket for %s: can still receive behind its filter; refusing to send with it",
              socket_address_text(peer, text));
    close(fd);
    return STATUS_DENIED;
}

/* What a sender's socket is, on one that may be bound already. */
static enum status prepare_sender(int fd, const struct socket_address *peer, uint32_t send_buffer)
{
    bool ipv6 = socket_address_is_ipv6(peer);
    if (!filter_is_locked(fd) && !attach_drop_all(fd))
        return fail_and_close(fd, peer, "SO_ATTACH_FILTER");
    if (!set_int(fd, SOL_SOCKET, SO_RCVBUF, 1))
        return fail_and_close(fd, peer, "SO_RCVBUF");
    if (!raise_buffer(fd, SO_SNDBUF, SO_SNDBUFFORCE, send_buffer, NULL))
        return fail_and_close(fd, peer, "SO_SNDBUF");
    if (ipv6 ? !set_int(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE)
             : !set_int(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE))
        return fail_and_close(fd, peer, "IP_MTU_DISCOVER");
    return STATUS_OK;
}

enum status socket_open_sender(const struct socket_address *peer, uint32_t send_buffer, int *fd)
{
    *fd = -1;
    int made = socket(peer->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (made < 0)
        return fail_and_close(made, peer, "can't be made");
    /* Before the bind, so that there is no moment at which something could be received. */
    enum status status = prepare_sender(made, peer, send_buffer);
    if (status != STATUS_OK)
        return status;
    if (socket_address_is_ipv6(peer) && !set_int(made, IPPROTO_IPV6, IPV6_V6ONLY, 1))
        return fail_and_close(made, peer, "IPV6_V6ONLY");
    struct socket_address any = {.storage.ss_family = peer->storage.ss_family, .size = peer->size};
    if (bind(made, (struct sockaddr *)&any.storage, any.size) != 0)
        return fail_and_close(made, peer, "bind");
    if (!filter_is_locked(made) || !loopback_is_dropped(made, peer))
        return refuse_to_send(made, peer);
    *fd = made;
    return STATUS_OK;
}

enum status socket_adopt_sender(int fd, const struct socket_address *peer, uint32_t send_buffer)
{
    char byte;
    int flags = fcntl(fd, F_GETFL);
    /* A full buffer is waited for. */
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
        return fail_and_close(fd, peer, "O_NONBLOCK");
    enum status status = prepare_sender(fd, peer, send_buffer);
    if (status != STATUS_OK)
        return status;
    /* Nothing comes after what is there: a process without a network can't try, so the locked filter is the proof. */
    while (recv(fd, &byte, sizeof byte, MSG_DONTWAIT | MSG_TRUNC) >= 0)
        continue;
    return filter_is_locked(fd) ? STATUS_OK : refuse_to_send(fd, peer);
}

/* The interface that has the address from which the kernel would send. */
static bool interface_of(struct socket_address *local, char interface[static 16])
{
    if (socket_address_is_ipv6(local) && ipv6_of(local)->sin6_scope_id != 0)
        return if_indextoname(ipv6_of(local)->sin6_scope_id, interface) != NULL;
    struct ifaddrs *list = NULL;
    if (getifaddrs(&list) != 0)
        return false;
    bool found = false;
    for (const struct ifaddrs *entry = list; entry != NULL && !found; entry = entry->ifa_next) {
        found = same_host(entry->ifa_addr, (struct sockaddr *)&local->storage);
        if (found)
            snprintf(interface, IF_NAMESIZE, "%s", entry->ifa_name);
    }
    freeifaddrs(list);
    if (!found)
        errno = ENODEV;
    return found;
}

enum status socket_route(const struct socket_address *peer, uint32_t *mtu, char interface[static 16])
{
    bool ipv6 = socket_address_is_ipv6(peer);
    int probe = socket(peer->storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return fail_and_close(probe, peer, "can't be made");
    struct socket_address target = *peer;
    if (port_of(&target) == 0)
        set_port(&target, DISCARD_PORT);
    if (connect(probe, (struct sockaddr *)&target.storage, target.size) != 0)
        return fail_and_close(probe, peer, "there is no route (see 'ip route get')");
    int value = 0;
    socklen_t size = sizeof value;
    if (getsockopt(probe, ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, ipv6 ? IPV6_MTU : IP_MTU, &value, &size) != 0 || value <= 0)
        return fail_and_close(probe, peer, "the MTU of the route is not known");
    struct socket_address local = {.size = sizeof local.storage};
    if (getsockname(probe, (struct sockaddr *)&local.storage, &local.size) != 0 || !interface_of(&local, interface))
        return fail_and_close(probe, peer, "the interface of the route is not known");
    close(probe);
    *mtu = (uint32_t)value;
    return STATUS_OK;
}
