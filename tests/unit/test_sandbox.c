// SPDX-License-Identifier: Apache-2.0
#include "common/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/durable.h"
#include "common/sandbox_private.h"
#include "common/sanitized.h"
#include "common/worker.h"

/* A process can go into a sandbox once and never out, so that each test is a child's. */

#define CHECK(condition)                                                           \
    do {                                                                           \
        if (!(condition)) {                                                        \
            dprintf(STDERR_FILENO, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                              \
        }                                                                          \
    } while (0)

enum { PATH_SIZE = 128 };

static char root[] = "/tmp/test_sandbox.XXXXXX";

static char *in_root(const char *name, char path[static PATH_SIZE])
{
    snprintf(path, PATH_SIZE, "%s/%s", root, name);
    return path;
}

static void enter(enum sandbox_role role)
{
    char written[PATH_SIZE], read_only[PATH_SIZE];
    const struct sandbox_path paths[] = {
        {in_root("written", written), role == SANDBOX_SENDER ? SANDBOX_MOVES : SANDBOX_WRITES_LINKED},
        {in_root("read", read_only), SANDBOX_READS},
        {NULL, SANDBOX_WRITES},
    };
    CHECK(sandbox_enter(role, paths, sizeof paths / sizeof *paths) == STATUS_OK);
}

static void seal(enum sandbox_role role)
{
    enter(role);
    CHECK(sandbox_seal(role) == STATUS_OK);
}

/* The wait status of a child that runs `body`. */
static int run_child(void (*body)(void))
{
    int status = -1;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        body();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void assert_holds(void (*body)(void))
{
    if (SANITIZED)
        skip();
    assert_int_equal(run_child(body), 0);
}

static bool is_denied(int result, int error)
{
    return result < 0 && errno == error;
}

static void work_in_own_directories(void)
{
    char path[PATH_SIZE], other[PATH_SIZE];
    seal(SANDBOX_RECEIVER);
    int fd = open(in_root("written/a/file", path), O_WRONLY | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, "some", 4) == 4 && ftruncate(fd, 2) == 0 && fsync(fd) == 0 && fchmod(fd, 0640) == 0);
    close(fd);
    CHECK(rename(path, in_root("written/b/file", other)) == 0);
    CHECK(symlink("file", in_root("written/b/link", path)) == 0 && link(other, in_root("written/a/hard", path)) == 0);
    CHECK(mkdir(in_root("written/a/deep", path), 0700) == 0);
    CHECK(rename(path, in_root("written/b/deep", other)) == 0 && rmdir(other) == 0);
    CHECK(rename(in_root("written/b/file", path), in_root("linked/file", other)) == 0); /* by written/away */
    CHECK(unlink(in_root("written/away/file", path)) == 0);
    CHECK(open(in_root("read/known", path), O_RDONLY) >= 0);
}

static void what_the_role_needs_goes_on_working(void **state)
{
    (void)state;
    assert_holds(work_in_own_directories);
}

static void reach_outside(void)
{
    char path[PATH_SIZE], other[PATH_SIZE];
    seal(SANDBOX_SENDER);
    CHECK(is_denied(open(root, O_RDONLY | O_DIRECTORY), EACCES));
    CHECK(is_denied(open(in_root("outside/file", path), O_RDONLY), EACCES));
    CHECK(is_denied(open(in_root("outside/new", path), O_WRONLY | O_CREAT, 0600), EACCES));
    CHECK(is_denied(open(in_root("read/known", path), O_WRONLY), EACCES));
    CHECK(is_denied(open(in_root("written/../outside/file", path), O_RDONLY), EACCES));
    CHECK(is_denied(unlink(in_root("outside/file", path)), EACCES));
    CHECK(is_denied(truncate(in_root("outside/file", path), 0), EPERM)); /* nobody needs it by a path */
    CHECK(rename(in_root("outside/file", path), in_root("written/a/file", other)) < 0);
    CHECK(is_denied(mknod(in_root("written/a/fifo", path), S_IFIFO | 0600, 0), EPERM));
}

static void nothing_outside_the_named_paths_can_be_reached(void **state)
{
    (void)state;
    assert_holds(reach_outside);
}

static void make_sockets_and_programs(void)
{
    int before[2];
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, before) == 0);
    struct iovec part = {.iov_base = (char[]){"x"}, .iov_len = 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    seal(SANDBOX_RECEIVER);
    CHECK(is_denied(socket(AF_INET, SOCK_DGRAM, 0), EPERM));
    CHECK(is_denied(socket(AF_UNIX, SOCK_DGRAM, 0), EPERM));
    CHECK(is_denied(socket(AF_NETLINK, SOCK_RAW, 0), EPERM));
    CHECK(is_denied((int)send(before[0], "x", 1, 0), EPERM));
    CHECK(is_denied((int)sendmsg(before[0], &message, 0), EPERM));
    CHECK(is_denied((int)recv(before[0], &(char){0}, 1, 0), EPERM));
    CHECK(is_denied(connect(before[0], NULL, 0), EPERM));
    CHECK(is_denied(setsockopt(before[0], SOL_SOCKET, SO_RCVBUF, &(int){1}, sizeof(int)), EPERM));
    CHECK(is_denied((int)syscall(SYS_io_uring_setup, 1, NULL), EPERM));
    CHECK(is_denied(execl("/bin/true", "true", NULL), EPERM));
    CHECK(is_denied(fork(), EPERM));
    CHECK(mmap(NULL, 1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
}

static void no_socket_ring_program_or_code_can_be_made(void **state)
{
    (void)state;
    assert_holds(make_sockets_and_programs);
}

static pthread_barrier_t limited, sealed;
static int results[2];

static void *try_socket(void *context)
{
    (void)context;
    sandbox_limit_thread();
    pthread_barrier_wait(&limited);
    pthread_barrier_wait(&sealed);
    results[0] = socket(AF_INET, SOCK_DGRAM, 0);
    results[1] = open(root, O_RDONLY | O_DIRECTORY);
    return NULL;
}

static void bind_running_threads(void)
{
    pthread_t thread;
    pthread_barrier_init(&limited, NULL, 2);
    pthread_barrier_init(&sealed, NULL, 2);
    enter(SANDBOX_RECEIVER);
    CHECK(pthread_create(&thread, NULL, try_socket, NULL) == 0);
    pthread_barrier_wait(&limited);
    CHECK(sandbox_seal(SANDBOX_RECEIVER) == STATUS_OK);
    pthread_barrier_wait(&sealed);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(results[0] == -1 && results[1] == -1);
    /* One that is started afterwards, as libuv does: it meets itself at the barriers. */
    pthread_barrier_destroy(&limited);
    pthread_barrier_init(&limited, NULL, 1);
    pthread_barrier_destroy(&sealed);
    pthread_barrier_init(&sealed, NULL, 1);
    results[0] = results[1] = 0;
    CHECK(pthread_create(&thread, NULL, try_socket, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(results[0] == -1 && results[1] == -1);
}

static void threads_that_run_and_those_that_come_are_bound(void **state)
{
    (void)state;
    assert_holds(bind_running_threads);
}

static void *stay(void *context)
{
    pthread_barrier_wait(context);
    return NULL;
}

static void leave_a_thread_unlimited(void)
{
    pthread_t thread;
    pthread_barrier_init(&sealed, NULL, 2);
    enter(SANDBOX_RECEIVER);
    CHECK(pthread_create(&thread, NULL, stay, &sealed) == 0);
    CHECK(sandbox_seal(SANDBOX_RECEIVER) == STATUS_DENIED);
}

static void a_thread_that_kept_its_capabilities_is_found_at_the_start(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_holds(leave_a_thread_unlimited);
}

static void wait_at_barrier(void *barrier)
{
    pthread_barrier_wait(barrier);
}

static void start_workers(void)
{
    enum { WORKERS = 20 };
    struct worker *workers[WORKERS];
    pthread_barrier_init(&sealed, NULL, WORKERS + 1);
    enter(SANDBOX_RECEIVER);
    for (size_t i = 0; i < WORKERS; i++)
        CHECK(worker_start("waits", wait_at_barrier, &sealed, &workers[i]) == STATUS_OK);
    CHECK(sandbox_capabilities_limit(false) && sandbox_capabilities_hold());
    pthread_barrier_wait(&sealed);
    for (size_t i = 0; i < WORKERS; i++)
        worker_join(workers[i]);
}

static void a_worker_that_is_started_has_given_up_its_capabilities(void **state)
{
    (void)state;
    assert_holds(start_workers);
}

static void prove_without_filter(void)
{
    enter(SANDBOX_RECEIVER);
    CHECK(sandbox_capabilities_limit(false));
    const char *works = sandbox_proof_find();
    CHECK(works != NULL && strcmp(works, "socket") == 0);
}

static void prove_without_landlock(void)
{
    sandbox_capabilities_choose(SANDBOX_RECEIVER);
    CHECK(sandbox_capabilities_limit(false));
    CHECK(sandbox_seccomp_load(SANDBOX_RECEIVER) == STATUS_OK);
    const char *works = sandbox_proof_find();
    CHECK(works != NULL && strcmp(works, "opening /") == 0);
}

static void the_proof_names_what_works_where_a_mechanism_is_missing(void **state)
{
    (void)state;
    assert_holds(prove_without_filter);
    assert_holds(prove_without_landlock);
}

static bool has_capability(unsigned capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    CHECK(syscall(SYS_capget, &header, data) == 0);
    return (data[capability / 32].permitted >> (capability % 32) & 1) != 0;
}

static void start_as_the_first_thread(void)
{
    bool could = has_capability(CAP_SYS_NICE);
    enter(SANDBOX_SENDER);
    sandbox_limit_starter();
    CHECK(has_capability(CAP_SYS_NICE) == could && !has_capability(CAP_SYS_ADMIN) && !has_capability(CAP_NET_ADMIN));
    CHECK(sandbox_seal(SANDBOX_SENDER) == STATUS_OK);
    CHECK(!has_capability(CAP_SYS_NICE));
}

static void the_thread_that_starts_others_keeps_one_capability_until_the_seal(void **state)
{
    (void)state;
    assert_holds(start_as_the_first_thread);
}

static void drop_capabilities(void)
{
    seal(SANDBOX_SENDER);
    CHECK(has_capability(CAP_LEASE) && has_capability(CAP_DAC_OVERRIDE));
    CHECK(!has_capability(CAP_NET_ADMIN) && !has_capability(CAP_NET_RAW) && !has_capability(CAP_SYS_ADMIN) &&
          !has_capability(CAP_SYS_PTRACE) && !has_capability(CAP_SETUID));
}

static void drop_all_capabilities(void)
{
    CHECK(setresgid(65534, 65534, 65534) == 0 && prctl(PR_SET_KEEPCAPS, 1L) == 0 && chown(root, 65534, 65534) == 0);
    CHECK(setresuid(65534, 65534, 65534) == 0 && has_capability(CAP_NET_RAW));
    seal(SANDBOX_RECEIVER);
    for (unsigned capability = 0; capability <= CAP_LAST_CAP; capability++)
        CHECK(!has_capability(capability));
}

static void the_sender_keeps_two_capabilities_and_the_receiver_none(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_holds(drop_capabilities);
    assert_holds(drop_all_capabilities);
}

static void lease(void)
{
    char path[PATH_SIZE];
    seal(SANDBOX_SENDER);
    int fd = open(in_root("read/known", path), O_RDONLY);
    CHECK(fcntl(fd, F_SETLEASE, F_RDLCK) == 0 && fcntl(fd, F_SETLEASE, F_UNLCK) == 0);
}

static void do_not_lease(void)
{
    char path[PATH_SIZE];
    seal(SANDBOX_RECEIVER);
    CHECK(is_denied(fcntl(open(in_root("read/known", path), O_RDONLY), F_SETLEASE, F_RDLCK), EPERM));
}

static void only_the_sender_takes_leases(void **state)
{
    (void)state;
    assert_holds(lease);
    assert_holds(do_not_lease);
}

static void trace(void)
{
    seal(SANDBOX_RECEIVER);
    (void)ptrace(PTRACE_ATTACH, getppid(), NULL, NULL);
}

static void tracing_another_process_is_the_end(void **state)
{
    (void)state;
    if (SANITIZED)
        skip();
    int status = run_child(trace);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
}

static void stay_closed(void)
{
    seal(SANDBOX_RECEIVER);
    CHECK(is_denied(prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L), EPERM));
    CHECK(is_denied((int)syscall(SYS_capset, NULL, NULL), EPERM) && is_denied(setuid(0), EPERM));
    CHECK(is_denied(open("/proc/self/mem", O_RDWR), EACCES));
}

static void what_was_given_up_stays_given_up(void **state)
{
    (void)state;
    assert_holds(stay_closed);
}

static void name_a_missing_directory(void)
{
    char path[PATH_SIZE];
    const struct sandbox_path paths[] = {{in_root("nowhere", path), SANDBOX_WRITES}};
    CHECK(sandbox_enter(SANDBOX_SENDER, paths, 1) == STATUS_SYSTEM);
    CHECK(!sandbox_is_on());
}

static void a_path_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    assert_holds(name_a_missing_directory);
}

static int make_root(void **state)
{
    static const char *const directories[] = {"written", "written/a", "written/b", "read", "outside", "linked"};
    static const char *const files[] = {"read/known", "outside/file"};
    char path[PATH_SIZE], target[PATH_SIZE];
    (void)state;
    if (mkdtemp(root) == NULL || chmod(root, 0755) != 0)
        return -1;
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        if (mkdir(in_root(directories[i], path), 0755) != 0)
            return -1;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        int fd = open(in_root(files[i], path), O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0)
            return -1;
        close(fd);
    }
    return symlink(in_root("linked", target), in_root("written/away", path));
}

static int remove_root(void **state)
{
    (void)state;
    return durable_remove_tree(AT_FDCWD, root) == STATUS_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_role_needs_goes_on_working),
        cmocka_unit_test(nothing_outside_the_named_paths_can_be_reached),
        cmocka_unit_test(no_socket_ring_program_or_code_can_be_made),
        cmocka_unit_test(threads_that_run_and_those_that_come_are_bound),
        cmocka_unit_test(a_thread_that_kept_its_capabilities_is_found_at_the_start),
        cmocka_unit_test(a_worker_that_is_started_has_given_up_its_capabilities),
        cmocka_unit_test(the_thread_that_starts_others_keeps_one_capability_until_the_seal),
        cmocka_unit_test(the_proof_names_what_works_where_a_mechanism_is_missing),
        cmocka_unit_test(the_sender_keeps_two_capabilities_and_the_receiver_none),
        cmocka_unit_test(only_the_sender_takes_leases),
        cmocka_unit_test(tracing_another_process_is_the_end),
        cmocka_unit_test(what_was_given_up_stays_given_up),
        cmocka_unit_test(a_path_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
