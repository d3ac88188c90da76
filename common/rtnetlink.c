// SPDX-License-Identifier: Apache-2.0
#include "common/rtnetlink.h"

#include <errno.h>
#include <linux/gen_stats.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"

enum { ANSWER_SIZE = 32 << 10, SEQUENCE = 0x64696f64, PAYLOAD_MAX = 64 };

/* A request: header, a fixed structure of its type, and at most one attribute. */
struct question {
    struct nlmsghdr header;
    union {
        struct rtmsg route;
        struct ifinfomsg link;
        struct tcmsg queue;
        char bytes[PAYLOAD_MAX];
    };
};

struct answer {
    _Alignas(struct nlmsghdr) char bytes[ANSWER_SIZE];
    const struct nlmsghdr *message; /* in `bytes`, of the wanted type */
};

static void begin(struct question *question, uint16_t type, size_t payload_size)
{
    *question = (struct question){0};
    question->header.nlmsg_type = type;
    question->header.nlmsg_flags = NLM_F_REQUEST;
    question->header.nlmsg_seq = SEQUENCE;
    question->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(payload_size);
}

static void add(struct question *question, uint16_t type, const void *value, size_t size)
{
    struct rtattr attribute = {.rta_type = type, .rta_len = (unsigned short)RTA_LENGTH(size)};
    char *place = (char *)question + NLMSG_ALIGN(question->header.nlmsg_len);
    memcpy(place, &attribute, sizeof attribute);
    memcpy(place + RTA_LENGTH(0), value, size);
    question->header.nlmsg_len = (uint32_t)(NLMSG_ALIGN(question->header.nlmsg_len) + RTA_LENGTH(size));
}

/* The part of a datagram that answers; errno is set when it is an error. */
static const struct nlmsghdr *find_answer(const char *bytes, size_t size, uint16_t wanted)
{
    unsigned left = (unsigned)size;
    for (const struct nlmsghdr *message = (const struct nlmsghdr *)(const void *)bytes; NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
        if (message->nlmsg_seq != SEQUENCE)
            continue; /* an event */
        if (message->nlmsg_type == wanted)
            return message;
        const struct nlmsgerr *error = NLMSG_DATA(message);
        errno = message->nlmsg_type == NLMSG_ERROR && message->nlmsg_len >= NLMSG_LENGTH(sizeof error->error)
                    ? -error->error
                    : EPROTO;
    }
    return NULL;
}

static bool ask(int fd, const struct question *question, uint16_t wanted, struct answer *answer)
{
    /* An unconnected netlink socket writes to the kernel; and where sends are forbidden, a write is not. */
    if (write(fd, question, question->header.nlmsg_len) < 0)
        return false;
    for (;;) {
        struct sockaddr_nl from = {0};
        socklen_t from_size = sizeof from;
        ssize_t got =
            recvfrom(fd, answer->bytes, sizeof answer->bytes, MSG_DONTWAIT, (struct sockaddr *)&from, &from_size);
        if (got < 0 && (errno == EINTR || errno == ENOBUFS))
            continue;
        if (got < 0)
            return false;
        errno = 0;
        if (from.nl_pid == 0)
            answer->message = find_answer(answer->bytes, (size_t)got, wanted);
        else
            answer->message = NULL;
        if (answer->message != NULL || errno != 0)
            return answer->message != NULL;
    }
}

/* The first attribute of a type, of at least `size` bytes, among `left` bytes of them; NULL when there is none. */
static const struct rtattr *attribute_in(const struct rtattr *attribute, size_t left, uint16_t type, size_t size)
{
    unsigned bytes = (unsigned)left;
    for (; RTA_OK(attribute, bytes); attribute = RTA_NEXT(attribute, bytes))
        if ((attribute->rta_type & NLA_TYPE_MASK) == type && RTA_PAYLOAD(attribute) >= size)
            return attribute;
    return NULL;
}

static const struct rtattr *attribute_of(const struct nlmsghdr *message, size_t fixed_size, uint16_t type, size_t size)
{
    if (message->nlmsg_len < NLMSG_LENGTH(fixed_size))
        return NULL;
    const char *first = (const char *)message + NLMSG_SPACE(fixed_size);
    size_t left = message->nlmsg_len > NLMSG_SPACE(fixed_size) ? message->nlmsg_len - NLMSG_SPACE(fixed_size) : 0;
    return attribute_in((const struct rtattr *)(const void *)first, left, type, size);
}

static uint32_t number(const struct rtattr *attribute)
{
    uint32_t value = 0;
    if (attribute != NULL)
        memcpy(&value, RTA_DATA(attribute), sizeof value);
    return value;
}

/* `index` of the interface of the route, and the MTU that the route itself has, or 0. */
static bool find_route(int fd, const struct socket_address *peer, uint32_t *index, uint32_t *mtu)
{
    struct question question;
    struct answer answer;
    bool ipv6 = socket_address_is_ipv6(peer);
    const struct sockaddr_in *ipv4_address = (const struct sockaddr_in *)&peer->storage;
    const struct sockaddr_in6 *ipv6_address = (const struct sockaddr_in6 *)&peer->storage;
    begin(&question, RTM_GETROUTE, sizeof question.route);
    question.route.rtm_family = (unsigned char)peer->storage.ss_family;
    question.route.rtm_dst_len = ipv6 ? 128 : 32;
    if (ipv6)
        add(&question, RTA_DST, &ipv6_address->sin6_addr, sizeof ipv6_address->sin6_addr);
    else
        add(&question, RTA_DST, &ipv4_address->sin_addr, sizeof ipv4_address->sin_addr);
    if (!ask(fd, &question, RTM_NEWROUTE, &answer))
        return false;
    *index = number(attribute_of(answer.message, sizeof question.route, RTA_OIF, sizeof *index));
    const struct rtattr *metrics = attribute_of(answer.message, sizeof question.route, RTA_METRICS, 0);
    *mtu = 0;
    if (metrics != NULL)
        *mtu = number(attribute_in(RTA_DATA(metrics), RTA_PAYLOAD(metrics), RTAX_MTU, sizeof *mtu));
    errno = *index == 0 ? ENODEV : 0;
    return *index != 0;
}

static bool find_link(int fd, uint32_t index, uint32_t *mtu, char interface[static 16])
{
    struct question question;
    struct answer answer;
    begin(&question, RTM_GETLINK, sizeof question.link);
    question.link.ifi_index = (int)index;
    if (!ask(fd, &question, RTM_NEWLINK, &answer))
        return false;
    *mtu = number(attribute_of(answer.message, sizeof question.link, IFLA_MTU, sizeof *mtu));
    const struct rtattr *name = attribute_of(answer.message, sizeof question.link, IFLA_IFNAME, 1);
    errno = ENODEV;
    if (name == NULL || *mtu == 0)
        return false;
    snprintf(interface, IF_NAMESIZE, "%.*s", (int)RTA_PAYLOAD(name), (const char *)RTA_DATA(name));
    return true;
}

enum status rtnetlink_route(int fd, const struct socket_address *peer, uint32_t *mtu, char interface[static 16])
{
    uint32_t index = 0, route_mtu = 0;
    if (find_route(fd, peer, &index, &route_mtu) && find_link(fd, index, mtu, interface)) {
        if (route_mtu != 0 && route_mtu < *mtu)
            *mtu = route_mtu;
        if (!socket_address_is_ipv6(peer) && *mtu > UINT16_MAX)
            *mtu = UINT16_MAX; /* the length field of IPv4 */
        return STATUS_OK;
    }
    char text[SOCKET_TEXT_SIZE];
    log_error("%s: there is no route (see 'ip route get'): %s", socket_address_text(peer, text), strerror(errno));
    return STATUS_SYSTEM;
}

static uint32_t index_of(int fd, const char *interface)
{
    struct question question;
    struct answer answer;
    char name[IF_NAMESIZE] = "";
    snprintf(name, sizeof name, "%s", interface);
    begin(&question, RTM_GETLINK, sizeof question.link);
    add(&question, IFLA_IFNAME, name, strlen(name) + 1);
    if (!ask(fd, &question, RTM_NEWLINK, &answer) || answer.message->nlmsg_len < NLMSG_LENGTH(sizeof(struct ifinfomsg)))
        return 0;
    return (uint32_t)((const struct ifinfomsg *)NLMSG_DATA(answer.message))->ifi_index;
}

uint64_t rtnetlink_queue_drops(int fd, const char *interface)
{
    struct question question;
    struct answer answer;
    uint32_t index = index_of(fd, interface);
    if (index == 0)
        return 0;
    begin(&question, RTM_GETQDISC, sizeof question.queue);
    question.queue.tcm_ifindex = (int)index;
    question.queue.tcm_parent = TC_H_ROOT;
    if (!ask(fd, &question, RTM_NEWQDISC, &answer))
        return 0;
    const struct rtattr *statistics = attribute_of(answer.message, sizeof question.queue, TCA_STATS2, 0);
    struct gnet_stats_queue queue = {0};
    if (statistics == NULL)
        return 0;
    const struct rtattr *found =
        attribute_in(RTA_DATA(statistics), RTA_PAYLOAD(statistics), TCA_STATS_QUEUE, sizeof queue);
    if (found != NULL)
        memcpy(&queue, RTA_DATA(found), sizeof queue);
    return queue.drops;
}
