// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/sandbox_private.h"

#define BIT(capability) (UINT64_C(1) << (capability))

/* To see whether other users still write their files, and to take what they dropped with narrow modes. */
#define SENDER_CAPABILITIES (BIT(CAP_LEASE) | BIT(CAP_DAC_OVERRIDE))
/*
 * Users that are members of the groups of their directories need nothing more. Root is a member of none of them, so
 * that a daemon that runs as root does by capabilities what its own user does by membership: it gives files to a group,
 * keeps the setgid bit of directories, and uses directories of others.
 */
#define ROOT_CAPABILITIES (BIT(CAP_CHOWN) | BIT(CAP_FSETID) | BIT(CAP_DAC_OVERRIDE))
#define ROOT_TAKES        BIT(CAP_FOWNER)   /* out of a sticky directory, what others dropped */
#define STARTER_KEEPS     BIT(CAP_SYS_NICE) /* which root has, and others who were given it */

struct sets {
    uint64_t effective, permitted, inheritable;
};

static uint64_t chosen;
static DIR *tasks; /* /proc/self/task, which is out of reach later */

void sandbox_capabilities_choose(enum sandbox_role role)
{
    tasks = opendir("/proc/self/task");
    chosen = role == SANDBOX_SENDER ? SENDER_CAPABILITIES : 0;
    if (geteuid() == 0)
        chosen |= role == SANDBOX_SENDER ? ROOT_CAPABILITIES | ROOT_TAKES : ROOT_CAPABILITIES;
}

/* Of a thread; 0: of the calling one. */
static bool read_sets(int thread, struct sets *sets)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = thread};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &header, data) != 0)
        return false;
    *sets = (struct sets){.effective = data[0].effective | (uint64_t)data[1].effective << 32,
                          .permitted = data[0].permitted | (uint64_t)data[1].permitted << 32,
                          .inheritable = data[0].inheritable | (uint64_t)data[1].inheritable << 32};
    return true;
}

static bool write_sets(const struct sets *sets)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    for (unsigned i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        data[i] = (struct __user_cap_data_struct){.effective = (uint32_t)(sets->effective >> (32 * i)),
                                                  .permitted = (uint32_t)(sets->permitted >> (32 * i)),
                                                  .inheritable = (uint32_t)(sets->inheritable >> (32 * i))};
    return syscall(SYS_capset, &header, data) == 0;
}

static bool are_within(const struct sets *sets, uint64_t kept)
{
    return ((sets->effective | sets->permitted | sets->inheritable) & ~kept) == 0;
}

bool sandbox_capabilities_hold(void)
{
    bool hold = tasks != NULL;
    if (!hold)
        return false;
    rewinddir(tasks);
    for (const struct dirent *entry; hold && (entry = readdir(tasks)) != NULL;) {
        struct sets sets;
        int thread = (int)strtoul(entry->d_name, NULL, 10);
        if (thread > 0)
            hold = read_sets(thread, &sets) ? are_within(&sets, chosen) : errno == ESRCH;
    }
    closedir(tasks);
    tasks = NULL;
    return hold;
}

/* No program is ever executed, so the bounding set is only for those who look; without CAP_SETPCAP it stays. */
static void narrow_bounding_set(void)
{
    for (unsigned capability = 0; capability < 64; capability++)
        if ((chosen & BIT(capability)) == 0 && prctl(PR_CAPBSET_READ, capability, 0L, 0L, 0L) == 1)
            (void)prctl(PR_CAPBSET_DROP, capability, 0L, 0L, 0L);
}

bool sandbox_capabilities_limit(bool starter)
{
    struct sets sets;
    uint64_t kept = starter ? chosen | STARTER_KEEPS : chosen;
    if (!read_sets(0, &sets))
        return false;
    if (are_within(&sets, kept))
        return true; /* without capset(2), which service managers like to forbid */
    narrow_bounding_set();
    sets.effective &= kept;
    sets.permitted &= kept;
    sets.inheritable &= kept;
    return write_sets(&sets);
}
