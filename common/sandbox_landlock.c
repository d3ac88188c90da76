// SPDX-License-Identifier: Apache-2.0
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/log.h"
#include "common/sandbox_private.h"

/* Of later kernels than the headers of Debian 12. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* ABI 3, Linux 6.2 */
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15) /* ABI 5, Linux 6.10 */
#endif

#define ACCESS_ABI_1 ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)
#define NET_TCP      UINT64_C(3) /* bind and connect; ABI 4, Linux 6.7 */
#define SCOPES       UINT64_C(3) /* abstract Unix sockets and signals; ABI 6, Linux 6.12 */

#define ACCESS_READ_FILE LANDLOCK_ACCESS_FS_READ_FILE
#define ACCESS_READ      (ACCESS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define ACCESS_WRITE                                                                                                \
    (ACCESS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
     LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SYM |                      \
     LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)
/* A rename into another directory is a making there. That none is made otherwise is seccomp's to see to. */
#define ACCESS_MOVE                                                                                               \
    (ACCESS_WRITE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SOCK | \
     LANDLOCK_ACCESS_FS_MAKE_FIFO)

enum { ABI_NEEDED = 2, ABI_TRUNCATE = 3, ABI_NET = 4, ABI_IOCTL = 5, ABI_SCOPE = 6 };

/* As far as any kernel knows it; an older one takes the beginning. */
struct ruleset {
    uint64_t fs, net, scoped;
};

struct confinement {
    int ruleset_fd;
    uint64_t handled;
};

/* What the C library and the daemons read of the system, where it is there. */
static const char *const system_files[] = {"/etc/passwd", "/etc/group", "/etc/nsswitch.conf",
                                           "/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/io_uring_disabled"};

static long abi_version(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

static enum status explain_absence(long abi)
{
    if (abi >= 0)
        log_error("sandbox: this kernel's Landlock has ABI %ld, and renames between directories need %d (Linux 5.19); "
                  "use a newer kernel, or set sandbox = off",
                  abi, ABI_NEEDED);
    else if (errno == EOPNOTSUPP)
        log_error("sandbox: Landlock is switched off on this machine: add it to the kernel's command line, as in "
                  "lsm=landlock,lockdown,yama,integrity,apparmor, or set sandbox = off");
    else if (errno == ENOSYS)
        log_error("sandbox: this kernel has no Landlock (CONFIG_SECURITY_LANDLOCK): use one that has, as Debian's, or "
                  "set sandbox = off");
    else
        log_error("sandbox: Landlock can't be used: %s; where a container's seccomp filter forbids it, allow it the "
                  "system calls landlock_*, or set sandbox = off",
                  strerror(errno));
    errno = abi >= 0 ? EOPNOTSUPP : errno;
    return STATUS_SYSTEM;
}

static uint64_t handled_by(long abi)
{
    uint64_t handled = ACCESS_ABI_1 | LANDLOCK_ACCESS_FS_REFER;
    if (abi >= ABI_TRUNCATE)
        handled |= LANDLOCK_ACCESS_FS_TRUNCATE;
    if (abi >= ABI_IOCTL)
        handled |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
    return handled;
}

static int create_ruleset(long abi, uint64_t handled)
{
    const struct ruleset ruleset = {.fs = handled, .net = NET_TCP, .scoped = SCOPES};
    size_t size = abi >= ABI_SCOPE ? sizeof ruleset : abi >= ABI_NET ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
    return (int)syscall(SYS_landlock_create_ruleset, &ruleset, size, 0U);
}

static uint64_t rights_of(enum sandbox_access access)
{
    switch (access) {
    case SANDBOX_READS:
    case SANDBOX_READS_LINKED:
        return ACCESS_READ;
    case SANDBOX_WRITES:
    case SANDBOX_WRITES_LINKED:
        return ACCESS_WRITE;
    case SANDBOX_MOVES:
        return ACCESS_MOVE;
    }
    return 0;
}

static bool add_descriptor(const struct confinement *confinement, int fd, uint64_t rights)
{
    struct stat meta;
    if (fstat(fd, &meta) != 0)
        return false;
    if (!S_ISDIR(meta.st_mode))
        rights &= ACCESS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE;
    const struct landlock_path_beneath_attr rule = {.allowed_access = rights & confinement->handled, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, confinement->ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0U) == 0;
}

/* What does not lead anywhere gives no right. */
static bool add_links(const struct confinement *confinement, int directory_fd, uint64_t rights)
{
    int listed = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = listed >= 0 ? fdopendir(listed) : NULL;
    if (stream == NULL) {
        if (listed >= 0)
            close(listed);
        return false;
    }
    bool good = true;
    for (const struct dirent *entry; good && (entry = readdir(stream)) != NULL;) {
        struct stat meta;
        if (fstatat(directory_fd, entry->d_name, &meta, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISLNK(meta.st_mode))
            continue;
        int fd = openat(directory_fd, entry->d_name, O_PATH | O_CLOEXEC);
        if (fd < 0)
            continue;
        good = add_descriptor(confinement, fd, rights);
        close(fd);
    }
    closedir(stream);
    return good;
}

/* An inode of /proc comes and goes with the kernel's cache, and a rule with it, so such a file is held open. */
static void close_unless_held(const char *path, int fd)
{
    int error = errno;
    if (strncmp(path, "/proc/", strlen("/proc/")) != 0)
        close(fd);
    errno = error;
}

static bool add_path(const struct confinement *confinement, const struct sandbox_path *path)
{
    int fd = open(path->path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return false;
    uint64_t rights = rights_of(path->access);
    bool good = add_descriptor(confinement, fd, rights);
    if (good && (path->access == SANDBOX_READS_LINKED || path->access == SANDBOX_WRITES_LINKED))
        good = add_links(confinement, fd, rights);
    close_unless_held(path->path, fd);
    return good;
}

static void add_system_files(const struct confinement *confinement)
{
    for (size_t i = 0; i < sizeof system_files / sizeof *system_files; i++) {
        const struct sandbox_path path = {system_files[i], SANDBOX_READS};
        if (!add_path(confinement, &path) && errno != ENOENT)
            log_warning("sandbox: %s can't be kept readable: %s", path.path, strerror(errno));
    }
}

enum status sandbox_landlock_confine(const struct sandbox_path paths[], size_t count)
{
    long abi = abi_version();
    if (abi < ABI_NEEDED)
        return explain_absence(abi);
    struct confinement confinement = {.handled = handled_by(abi)};
    const char *what = "a set of rules";
    confinement.ruleset_fd = create_ruleset(abi, confinement.handled);
    bool good = confinement.ruleset_fd >= 0;
    for (size_t i = 0; i < count && good; i++) {
        if (paths[i].path == NULL)
            continue;
        what = paths[i].path;
        good = add_path(&confinement, &paths[i]);
    }
    if (good) {
        add_system_files(&confinement);
        what = "this thread";
        good = syscall(SYS_landlock_restrict_self, confinement.ruleset_fd, 0U) == 0;
    }
    int error = errno;
    if (confinement.ruleset_fd >= 0)
        close(confinement.ruleset_fd);
    if (!good) {
        log_error("sandbox: Landlock refuses %s: %s; correct that, or set sandbox = off", what, strerror(error));
        errno = error;
        return STATUS_SYSTEM;
    }
    if (abi < ABI_TRUNCATE)
        log_notice("sandbox: this kernel's Landlock (ABI %ld) does not see truncate(2), which Linux 6.2 does", abi);
    return STATUS_OK;
}
