// SPDX-License-Identifier: Apache-2.0
#include "sender/owner.h"

#include <pthread.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "proto/relpath.h"

enum { PASSWD_BUFFER_SIZE = 4096 };

struct known {
    uint64_t asked_ns; /* 0: nothing is known */
    uid_t uid;
    char name[LIMIT_USER_LENGTH + 1];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct known known[OWNER_KNOWN];

static void ask(uid_t uid, char name[static LIMIT_USER_LENGTH + 1])
{
    struct passwd entry, *found = NULL;
    char buffer[PASSWD_BUFFER_SIZE];
    if (getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) == 0 && found != NULL &&
        strlen(found->pw_name) <= LIMIT_USER_LENGTH &&
        relpath_check_text(found->pw_name, strlen(found->pw_name)) == NULL)
        snprintf(name, LIMIT_USER_LENGTH + 1, "%s", found->pw_name);
    else
        snprintf(name, LIMIT_USER_LENGTH + 1, "%u", (unsigned)uid);
}

static bool look_up(uid_t uid, uint64_t now_ns, char name[static LIMIT_USER_LENGTH + 1])
{
    bool found = false;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < OWNER_KNOWN && !found; i++) {
        found = known[i].asked_ns != 0 && known[i].uid == uid && now_ns < known[i].asked_ns + OWNER_AGE_NS;
        if (found)
            memcpy(name, known[i].name, sizeof known[i].name);
    }
    pthread_mutex_unlock(&mutex);
    return found;
}

/* In the place of what was known of it, or of whoever was asked for longest ago. */
static void remember(uid_t uid, uint64_t now_ns, const char *name)
{
    struct known *place = &known[0];
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < OWNER_KNOWN; i++) {
        if (known[i].asked_ns != 0 && known[i].uid == uid) {
            place = &known[i];
            break;
        }
        if (known[i].asked_ns < place->asked_ns)
            place = &known[i];
    }
    place->uid = uid;
    place->asked_ns = now_ns > 0 ? now_ns : 1;
    snprintf(place->name, sizeof place->name, "%s", name);
    pthread_mutex_unlock(&mutex);
}

void owner_name(uid_t uid, uint64_t now_ns, char name[static LIMIT_USER_LENGTH + 1])
{
    if (look_up(uid, now_ns, name))
        return;
    ask(uid, name);
    remember(uid, now_ns, name);
}
