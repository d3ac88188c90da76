// SPDX-License-Identifier: Apache-2.0
#include "common/activation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "common/log.h"

/* The lane that a passed socket is for, or -1 after telling what is wrong with it. */
static int lane_of(int fd, const char *name, const struct socket_address *first, unsigned lanes)
{
    struct socket_address bound = {.size = sizeof bound.storage};
    int type = 0;
    socklen_t size = sizeof type;
    char own[SOCKET_TEXT_SIZE], other[SOCKET_TEXT_SIZE];
    socket_address_text(first, own);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound.storage, &bound.size) != 0) {
        log_error("passed by the service manager: '%s' (descriptor %d) is no socket", name, fd);
        return -1;
    }
    if (type != SOCK_DGRAM || (bound.storage.ss_family != AF_INET && bound.storage.ss_family != AF_INET6)) {
        log_error("passed by the service manager: '%s' (descriptor %d) is not UDP; the socket unit needs "
                  "ListenDatagram=%s",
                  name, fd, own);
        return -1;
    }
    socket_address_text(&bound, other);
    if (bound.storage.ss_family != first->storage.ss_family) {
        log_error("passed by the service manager: '%s' is bound to %s, of another address family than %s", name, other,
                  own);
        return -1;
    }
    unsigned lane = (unsigned)socket_address_port(&bound) - socket_address_port(first);
    if (lane < lanes)
        return (int)lane;
    log_error("passed by the service manager: '%s' is bound to %s, which is no lane: with listen = %s and lanes = %u "
              "the ports are %u to %u",
              name, other, own, lanes, socket_address_port(first), socket_address_port(first) + lanes - 1);
    return -1;
}

static bool place(int fd, const char *name, const struct socket_address *first, unsigned lanes, int fds[])
{
    int lane = lane_of(fd, name, first, lanes);
    if (lane >= 0 && fds[lane] < 0) {
        fds[lane] = fd;
        return true;
    }
    if (lane >= 0)
        log_error("passed by the service manager: '%s' is a second socket for lane %d", name, lane);
    close(fd);
    return false;
}

static bool all_are_there(const struct socket_address *first, unsigned lanes, const int fds[])
{
    bool complete = true;
    for (unsigned i = 0; i < lanes; i++) {
        struct socket_address address;
        char text[SOCKET_TEXT_SIZE] = "?";
        if (fds[i] >= 0)
            continue;
        if (socket_address_lane(first, i, &address))
            socket_address_text(&address, text);
        log_error("the service manager passes no socket for lane %u; add ListenDatagram=%s to the socket unit", i,
                  text);
        complete = false;
    }
    return complete;
}

enum status activation_take(const struct socket_address *first, unsigned lanes, int fds[])
{
    for (unsigned i = 0; i < lanes; i++)
        fds[i] = -1;
    char **names = NULL;
    int count = sd_listen_fds_with_names(1, &names);
    if (count < 0) {
        log_error("what the service manager passes can't be read: %s", strerror(-count));
        return STATUS_SYSTEM;
    }
    bool good = true;
    for (int i = 0; i < count; i++)
        good = place(SD_LISTEN_FDS_START + i, names[i], first, lanes, fds) && good;
    for (int i = 0; i < count; i++)
        free(names[i]);
    free(names);
    if (count == 0 || (all_are_there(first, lanes, fds) && good))
        return STATUS_OK;
    for (unsigned i = 0; i < lanes; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
    return STATUS_INVALID;
}
