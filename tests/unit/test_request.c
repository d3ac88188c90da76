// SPDX-License-Identifier: Apache-2.0
#include "common/request.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/durable.h"
#include "common/log.h"
#include "common/request_text.h"

enum { OTHER_UID = 65534 };

/* A directory of requests of its own for each test. */
struct place {
    char path[64];
    int fd;
};

static int make_place(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (place == NULL)
        return -1;
    snprintf(place->path, sizeof place->path, "%s", "/tmp/test_request.XXXXXX");
    if (mkdtemp(place->path) == NULL)
        return -1;
    place->fd = open(place->path, O_RDONLY | O_DIRECTORY);
    *state = place;
    return place->fd < 0 ? -1 : 0;
}

static int remove_place(void **state)
{
    struct place *place = *state;
    close(place->fd);
    int result = durable_remove_tree(AT_FDCWD, place->path) == STATUS_OK ? 0 : -1;
    free(place);
    return result;
}

static void write_file(const struct place *place, const char *name, const char *text, mode_t mode)
{
    int fd = openat(place->fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void set_age(const struct place *place, const char *name, int64_t seconds)
{
    int64_t then = clock_realtime_ns() / 1000000000 - seconds;
    struct timespec times[2] = {{.tv_sec = then}, {.tv_sec = then}};
    assert_int_equal(utimensat(place->fd, name, times, AT_SYMLINK_NOFOLLOW), 0);
}

static bool exists(const struct place *place, const char *name)
{
    return faccessat(place->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int count_files(const struct place *place)
{
    int count = 0;
    DIR *listing = opendir(place->path);
    assert_non_null(listing);
    for (const struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(listing);
    return count;
}

static void post_last(const struct place *place, uint64_t count, struct request *request)
{
    *request = (struct request){.kind = REQUEST_REPLAY, .since_ns = INT64_MIN, .last_count = count};
    assert_int_equal(request_post(place->fd, request), STATUS_OK);
}

static void a_request_arrives_as_it_was_posted(void **state)
{
    const struct place *place = *state;
    char *tickets[] = {(char *)"GCRQ-U9SJ-2LEJ-2MJ", (char *)"2CRQ-U9SJ-2NTY-557"};
    struct request posted[] = {
        {.since_ns = INT64_MIN, .tickets = tickets, .ticket_count = 2, .now = true},
        {.since_ns = INT64_C(-12345678901234567)},
        {.since_ns = INT64_MIN, .first_sequence = 1, .last_sequence = 9999999999999999, .dry_run = true},
        {.since_ns = INT64_MIN, .last_count = 7},
        {.kind = REQUEST_ACCEPT_LOSS,
         .since_ns = INT64_MIN,
         .tickets = tickets,
         .ticket_count = 1,
         .reason = "disk \"B\" was exchanged: \xe2\x82\xac 20"},
    };
    const struct passwd *user = getpwuid(geteuid());
    char name[64];

    for (size_t i = 0; i < sizeof posted / sizeof posted[0]; i++) {
        struct request got;
        assert_int_equal(request_post(place->fd, &posted[i]), STATUS_OK);
        assert_int_equal(request_next(place->fd, &got), STATUS_OK);
        assert_string_equal(got.id, posted[i].id);
        assert_int_equal(got.kind, posted[i].kind);
        assert_int_equal(got.ticket_count, posted[i].ticket_count);
        for (size_t j = 0; j < got.ticket_count; j++)
            assert_string_equal(got.tickets[j], tickets[j]);
        assert_true(got.since_ns == posted[i].since_ns);
        assert_int_equal(got.first_sequence, posted[i].first_sequence);
        assert_int_equal(got.last_sequence, posted[i].last_sequence);
        assert_int_equal(got.last_count, posted[i].last_count);
        assert_int_equal(got.now, posted[i].now);
        assert_int_equal(got.dry_run, posted[i].dry_run);
        assert_string_equal(got.reason, posted[i].reason);
        if (user != NULL)
            assert_string_equal(got.requester, user->pw_name);
        assert_true(llabs(got.made_at_ns - clock_realtime_ns()) < INT64_C(60000000000));
        snprintf(name, sizeof name, "%.32s.request", got.id);
        struct stat meta;
        assert_int_equal(fstatat(place->fd, name, &meta, 0), 0);
        assert_int_equal(meta.st_mode & 07777, 0640);
        assert_int_equal(request_answer(place->fd, &got, "{}"), STATUS_OK);
        assert_false(exists(place, name));
        request_deinit(&got);
    }
}

static void the_oldest_comes_first_and_stays_until_it_is_answered(void **state)
{
    const struct place *place = *state;
    static const int64_t ages[3] = {10, 30, 20};
    static const uint64_t order[3] = {2, 3, 1};
    struct request posted[3], got;
    char name[64];

    for (unsigned i = 0; i < 3; i++) {
        post_last(place, i + 1, &posted[i]);
        snprintf(name, sizeof name, "%.32s.request", posted[i].id);
        set_age(place, name, ages[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        for (int again = 0; again < 2; again++) {
            assert_int_equal(request_next(place->fd, &got), STATUS_OK);
            assert_int_equal(got.last_count, order[i]);
            request_deinit(&got);
        }
        assert_int_equal(request_answer(place->fd, &got, "{}"), STATUS_OK);
    }
    assert_int_equal(request_next(place->fd, &got), STATUS_NOT_FOUND);
}

static void an_answer_reaches_who_asked_once(void **state)
{
    const struct place *place = *state;
    struct request posted, got;
    char *answer = NULL;

    post_last(place, 1, &posted);
    assert_int_equal(request_wait(place->fd, posted.id, 0, &answer), STATUS_NOT_FOUND);
    assert_int_equal(request_next(place->fd, &got), STATUS_OK);
    assert_int_equal(request_answer(place->fd, &got, "{\"accepted\": true}"), STATUS_OK);
    assert_int_equal(request_wait(place->fd, posted.id, 0, &answer), STATUS_OK);
    assert_string_equal(answer, "{\"accepted\": true}");
    free(answer);
    assert_int_equal(count_files(place), 0);
    assert_int_equal(request_wait(place->fd, posted.id, 0, &answer), STATUS_NOT_FOUND);
}

static void who_waits_is_woken_by_the_answer(void **state)
{
    const struct place *place = *state;
    struct request posted;
    char *answer = NULL;

    post_last(place, 1, &posted);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct request got;
        bool good = request_next(place->fd, &got) == STATUS_OK &&
                    request_answer(place->fd, &got, "{\"message\": \"x\"}") == STATUS_OK;
        _exit(good ? 0 : 1);
    }
    assert_int_equal(request_wait(place->fd, posted.id, 60 * CLOCK_SECOND_NS, &answer), STATUS_OK);
    assert_string_equal(answer, "{\"message\": \"x\"}");
    free(answer);
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
}

static void a_request_can_be_withdrawn_until_it_is_answered(void **state)
{
    const struct place *place = *state;
    struct request posted, got;

    post_last(place, 1, &posted);
    assert_true(request_withdraw(place->fd, posted.id));
    assert_int_equal(request_next(place->fd, &got), STATUS_NOT_FOUND);
    assert_false(request_withdraw(place->fd, posted.id));
    assert_int_equal(count_files(place), 0);
}

static const char id_text[] = "0123456789abcdef0123456789abcdef";

/* Puts `text` there as a request and expects that it is answered with a refusal that has `expected` in it. */
static void assert_refused(const struct place *place, const char *text, mode_t mode, const char *expected)
{
    char name[64], *answer = NULL;
    struct request got;

    snprintf(name, sizeof name, "%s.request", id_text);
    write_file(place, name, text, mode);
    assert_int_equal(request_next(place->fd, &got), STATUS_NOT_FOUND);
    assert_false(exists(place, name));
    assert_int_equal(request_wait(place->fd, id_text, 0, &answer), STATUS_OK);
    assert_non_null(strstr(answer, "\"accepted\":false"));
    if (strstr(answer, expected) == NULL)
        fail_msg("'%s' is answered by %s", text, answer);
    free(answer);
}

static void what_is_no_request_is_answered_with_the_reason(void **state)
{
    const struct place *place = *state;
    static const char *const texts[][2] = {
        {"", "no JSON object"},
        {"{", "no JSON object"},
        {"[]", "no JSON object"},
        {"{\"kind\":\"replay\",\"last\":1} x", "no JSON object"},
        {"{\"kind\":\"replay\",\"last\":1,\"last\":2}", "no JSON object"},
        {"{\"kind\":\"replay\",\"last\":99999999999999999999}", "no JSON object"},
        {"{\"kind\":\"replay\",\"last\":[[[[1]]]]}", "nested too deeply"},
        {"{}", "kind"},
        {"{\"kind\":\"destroy\"}", "kind"},
        {"{\"kind\":1}", "kind"},
        {"{\"kind\":\"replay\"}", "needs one of"},
        {"{\"kind\":\"replay\",\"last\":0}", "member last"},
        {"{\"kind\":\"replay\",\"last\":-1}", "member last"},
        {"{\"kind\":\"replay\",\"last\":\"1\"}", "member last"},
        {"{\"kind\":\"replay\",\"last\":1.5}", "member last"},
        {"{\"kind\":\"replay\",\"last\":1,\"since_ns\":1}", "needs one of"},
        {"{\"kind\":\"replay\",\"since_ns\":\"now\"}", "member since_ns"},
        {"{\"kind\":\"replay\",\"first_sequence\":2,\"last_sequence\":1}", "begin"},
        {"{\"kind\":\"replay\",\"first_sequence\":2}", "begin"},
        {"{\"kind\":\"replay\",\"last_sequence\":2}", "begin"},
        {"{\"kind\":\"replay\",\"last\":1,\"now\":1}", "member now"},
        {"{\"kind\":\"replay\",\"last\":1,\"reason\":\"x\"}", "member reason"},
        {"{\"kind\":\"replay\",\"last\":1,\"more\":1}", "member more"},
        {"{\"kind\":\"replay\",\"last\":1,\"\xe2\x82\xac\":1}", "one of its members"},
        {"{\"kind\":\"replay\",\"tickets\":[]}", "member tickets"},
        {"{\"kind\":\"replay\",\"tickets\":[1]}", "member tickets"},
        {"{\"kind\":\"replay\",\"tickets\":[\"x\",\"\"]}", "member tickets"},
        {"{\"kind\":\"replay\",\"tickets\":[\"x\\u001b[2J\"]}", "member tickets"},
        {"{\"kind\":\"replay\",\"tickets\":\"x\"}", "member tickets"},
        {"{\"kind\":\"accept-loss\",\"tickets\":[\"x\"]}", "reason"},
        {"{\"kind\":\"accept-loss\",\"reason\":\"x\"}", "reason"},
        {"{\"kind\":\"accept-loss\",\"tickets\":[\"x\"],\"reason\":\"\"}", "member reason"},
        {"{\"kind\":\"accept-loss\",\"tickets\":[\"x\"],\"reason\":\"a\\nb\"}", "member reason"},
        {"{\"kind\":\"accept-loss\",\"tickets\":[\"x\"],\"reason\":\"a\\u009bb\"}", "member reason"},
        {"{\"kind\":\"accept-loss\",\"tickets\":[\"x\"],\"reason\":\"a\",\"now\":true}", "member now"},
        {"{\"kind\":\"accept-loss\",\"tickets\":[\"x\"],\"reason\":\"a\",\"names\":[\"x\"]}", "member names"},
        {"{\"kind\":\"quarantine\"}", "action"},
        {"{\"kind\":\"quarantine\",\"action\":\"destroy\"}", "member action"},
        {"{\"kind\":\"quarantine\",\"action\":\"discard\"}", "names"},
        {"{\"kind\":\"quarantine\",\"action\":\"discard\",\"names\":[\"../x\"]}", "member names"},
        {"{\"kind\":\"quarantine\",\"action\":\"discard\",\"names\":[\".x\"]}", "member names"},
        {"{\"kind\":\"quarantine\",\"action\":\"discard\",\"names\":[\"a/b\"]}", "member names"},
        {"{\"kind\":\"quarantine\",\"action\":\"list\",\"tickets\":[\"x\"]}", "member tickets"},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_refused(place, texts[i][0], 0640, texts[i][1]);
    assert_refused(place, "{\"kind\":\"replay\",\"last\":1}", 0660, "others");
    assert_refused(place, "{\"kind\":\"replay\",\"last\":1}", 0646, "others");
}

static void a_request_about_the_quarantine_arrives_as_it_was_asked(void **state)
{
    const struct place *place = *state;
    char *names[] = {"0000000000000042-1f2e3d4c-größe", "other"};
    struct request request = {.kind = REQUEST_QUARANTINE,
                              .since_ns = INT64_MIN,
                              .action = REQUEST_DISCARD,
                              .names = names,
                              .name_count = 2,
                              .reason = "not ours"};
    struct request got;

    assert_int_equal(request_post(place->fd, &request), STATUS_OK);
    assert_int_equal(request_next(place->fd, &got), STATUS_OK);
    assert_int_equal(got.kind, REQUEST_QUARANTINE);
    assert_int_equal(got.action, REQUEST_DISCARD);
    assert_int_equal(got.name_count, 2);
    assert_string_equal(got.names[0], names[0]);
    assert_string_equal(got.names[1], names[1]);
    assert_string_equal(got.reason, "not ours");
    assert_int_equal(request_answer(place->fd, &got, "{}"), STATUS_OK);
    request_deinit(&got);
}

static void too_large_is_refused(void **state)
{
    const struct place *place = *state;
    size_t size = REQUEST_SIZE_MAX + 1;
    char *text = malloc(size + 1);

    assert_non_null(text);
    memset(text, '[', size);
    text[size] = '\0';
    assert_refused(place, text, 0640, "too large");
    text[size - 1] = '\0';
    assert_refused(place, text, 0640, "nested too deeply");
    free(text);

    /* Many tickets fit, but not everything does. */
    char *tickets[REQUEST_TICKETS], ticket[REQUEST_TICKET_SIZE];
    struct request request = {.since_ns = INT64_MIN, .tickets = tickets, .ticket_count = REQUEST_TICKETS}, got;
    memset(ticket, 'Q', sizeof ticket - 1);
    ticket[sizeof ticket - 1] = '\0';
    for (size_t i = 0; i < REQUEST_TICKETS; i++)
        tickets[i] = ticket;
    assert_int_equal(request_post(place->fd, &request), STATUS_OK);
    assert_int_equal(request_next(place->fd, &got), STATUS_OK);
    assert_int_equal(got.ticket_count, REQUEST_TICKETS);
    assert_int_equal(request_answer(place->fd, &got, "{}"), STATUS_OK);
    request_deinit(&got);
}

static void what_is_no_regular_file_is_neither_followed_nor_waited_for(void **state)
{
    const struct place *place = *state;
    static const char *const names[] = {
        "11111111111111111111111111111111.request",
        "22222222222222222222222222222222.request",
        "33333333333333333333333333333333.request",
        "44444444444444444444444444444444.request",
    };
    struct request got;

    write_file(place, "secret", "{\"kind\":\"replay\",\"last\":1}", 0600);
    assert_int_equal(symlinkat("secret", place->fd, names[0]), 0);
    assert_int_equal(mkfifoat(place->fd, names[1], 0666), 0);
    assert_int_equal(mkdirat(place->fd, names[2], 0777), 0);
    assert_int_equal(mkdirat(place->fd, names[3], 0777), 0);
    write_file(place, "44444444444444444444444444444444.request/kept", "", 0600);
    assert_int_equal(request_next(place->fd, &got), STATUS_NOT_FOUND);
    for (size_t i = 0; i < 3; i++)
        assert_false(exists(place, names[i]));
    assert_true(exists(place, "secret"));
    /* One that can't be taken away hinders nobody. */
    struct request posted;
    post_last(place, 1, &posted);
    assert_int_equal(request_next(place->fd, &got), STATUS_OK);
    assert_string_equal(got.id, posted.id);
}

static void a_file_with_a_second_name_is_refused(void **state)
{
    const struct place *place = *state;
    static const char text[] = "{\"kind\":\"replay\",\"last\":1}";
    struct request got;

    write_file(place, "other", text, 0600);
    assert_int_equal(linkat(place->fd, "other", place->fd, "0123456789abcdef0123456789abcdef.request", 0), 0);
    assert_int_equal(request_next(place->fd, &got), STATUS_NOT_FOUND);
    assert_true(exists(place, "other"));
    char *answer = NULL;
    assert_int_equal(request_wait(place->fd, id_text, 0, &answer), STATUS_OK);
    assert_non_null(strstr(answer, "others"));
    free(answer);
}

static void other_names_are_left_alone(void **state)
{
    const struct place *place = *state;
    static const char *const names[] = {
        "request",
        ".request",
        "0123456789abcdef0123456789abcde.request",
        "0123456789abcdef0123456789abcdef0.request",
        "0123456789ABCDEF0123456789ABCDEF.request",
        "0123456789abcdef0123456789abcdef.requests",
        ".0123456789abcdef0123456789abcdef.request",
        "0123456789abcdef0123456789abcdef",
        "g123456789abcdef0123456789abcdef.request",
    };
    struct request got;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        write_file(place, names[i], "{\"kind\":\"replay\",\"last\":1}", 0640);
    assert_int_equal(request_next(place->fd, &got), STATUS_NOT_FOUND);
    assert_int_equal(count_files(place), sizeof names / sizeof names[0]);
}

static void further_requests_are_refused_when_many_wait(void **state)
{
    const struct place *place = *state;
    struct request request = {.since_ns = INT64_MIN, .last_count = 1};
    char name[64];

    for (unsigned i = 0; i < REQUEST_WAITING; i++) {
        snprintf(name, sizeof name, "%032x.request", i);
        write_file(place, name, "", 0640);
    }
    assert_int_equal(request_post(place->fd, &request), STATUS_LIMIT);
    assert_int_equal(unlinkat(place->fd, name, 0), 0);
    assert_int_equal(request_post(place->fd, &request), STATUS_OK);
}

static void what_nobody_fetched_goes_after_an_hour(void **state)
{
    const struct place *place = *state;
    static const char *const old[] = {
        "0123456789abcdef0123456789abcdef.answer",
        ".0123456789abcdef0123456789abcdef.answer.tmp",
        ".0123456789abcdef0123456789abcdef.request",
        "..0123456789abcdef0123456789abcdef.request.tmp",
    };
    static const char *const kept[] = {
        "1123456789abcdef0123456789abcdef.request",
        "readme",
        ".1123456789abcdef0123456789abcdef.other",
        "x0123456789abcdef0123456789abcdef.answer",
    };
    enum { OLD = sizeof old / sizeof old[0], KEPT = sizeof kept / sizeof kept[0] };

    for (size_t i = 0; i < OLD; i++) {
        write_file(place, old[i], "{}", 0640);
        set_age(place, old[i], 3500);
    }
    for (size_t i = 0; i < KEPT; i++) {
        write_file(place, kept[i], "{}", 0640);
        set_age(place, kept[i], 100000);
    }
    request_expire(place->fd, clock_realtime_ns());
    assert_int_equal(count_files(place), OLD + KEPT);
    request_expire(place->fd, clock_realtime_ns() + INT64_C(200) * 1000000000);
    assert_int_equal(count_files(place), KEPT);
}

static void a_request_is_gone_also_when_its_answer_can_not_be_written(void **state)
{
    const struct place *place = *state;
    struct request posted, got;
    char name[64];

    post_last(place, 1, &posted);
    snprintf(name, sizeof name, "%.32s.answer", posted.id);
    assert_int_equal(mkdirat(place->fd, name, 0777), 0);
    snprintf(name, sizeof name, "%.32s.answer/x", posted.id);
    write_file(place, name, "", 0600);
    assert_int_equal(request_next(place->fd, &got), STATUS_OK);
    assert_int_equal(request_answer(place->fd, &got, "{}"), STATUS_SYSTEM);
    assert_int_equal(request_next(place->fd, &got), STATUS_NOT_FOUND);
    char *answer = NULL;
    assert_int_equal(request_wait(place->fd, posted.id, 0, &answer), STATUS_NOT_FOUND);
}

/* Runs `act` as another user in the group `OTHER_UID`, in a process of its own; what it returns. */
static bool as_other(struct place *place, bool (*act)(struct place *))
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool other = setgroups(0, NULL) == 0 && setresgid(OTHER_UID, OTHER_UID, OTHER_UID) == 0 &&
                     setresuid(OTHER_UID, OTHER_UID, OTHER_UID) == 0;
        int fd = open(place->path, O_RDONLY | O_DIRECTORY);
        place->fd = fd;
        _exit(other && fd >= 0 && act(place) ? 0 : 1);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    return WIFEXITED(result) && WEXITSTATUS(result) == 0;
}

static bool post_as_other(struct place *place)
{
    struct request request = {.since_ns = INT64_MIN, .last_count = 5};
    return request_post(place->fd, &request) == STATUS_OK;
}

static bool fetch_as_other(struct place *place)
{
    char *answer = NULL;
    DIR *listing = opendir(place->path);
    for (const struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing)) {
        char id[REQUEST_ID_SIZE];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(id, sizeof id, "%.32s", entry->d_name);
        bool good = request_wait(place->fd, id, 0, &answer) == STATUS_OK && strcmp(answer, "{\"n\":1}") == 0;
        free(answer);
        closedir(listing);
        return good;
    }
    closedir(listing);
    return false;
}

static bool harm_as_other(struct place *place)
{
    char name[64];
    snprintf(name, sizeof name, "%.32s.answer", id_text);
    write_file(place, name, "{\"accepted\":true}", 0644);
    DIR *listing = opendir(place->path);
    bool harmed = false;
    for (const struct dirent *entry = readdir(listing); entry != NULL; entry = readdir(listing))
        if (strstr(entry->d_name, ".request") != NULL)
            harmed |= unlinkat(place->fd, entry->d_name, 0) == 0 ||
                      renameat(place->fd, entry->d_name, place->fd, "moved") == 0;
    closedir(listing);
    return !harmed;
}

static void a_group_may_ask_and_its_members_are_told_apart(void **state)
{
    struct place *place = *state;
    const struct passwd *user = getpwuid(OTHER_UID);
    struct request got;

    if (geteuid() != 0 || user == NULL)
        skip();
    assert_false(as_other(place, post_as_other));
    assert_int_equal(fchown(place->fd, (uid_t)-1, OTHER_UID), 0);
    assert_int_equal(fchmod(place->fd, 03770), 0);
    assert_true(as_other(place, post_as_other));
    assert_int_equal(request_next(place->fd, &got), STATUS_OK);
    assert_string_equal(got.requester, user->pw_name);
    assert_int_equal(request_answer(place->fd, &got, "{\"n\":1}"), STATUS_OK);
    assert_true(as_other(place, fetch_as_other));

    /* What is another's stays, and an answer that a member made is none. */
    struct request posted;
    char *answer = NULL;
    post_last(place, 1, &posted);
    assert_true(as_other(place, harm_as_other));
    assert_int_equal(request_next(place->fd, &got), STATUS_OK);
    assert_string_equal(got.id, posted.id);
    assert_int_equal(request_wait(place->fd, id_text, 0, &answer), STATUS_NOT_FOUND);
}

#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, make_place, remove_place)

int main(void)
{
    log_open("test_request", LOG_LEVEL_ERROR);
    const struct CMUnitTest tests[] = {
        IN_PLACE(a_request_arrives_as_it_was_posted),
        IN_PLACE(the_oldest_comes_first_and_stays_until_it_is_answered),
        IN_PLACE(an_answer_reaches_who_asked_once),
        IN_PLACE(who_waits_is_woken_by_the_answer),
        IN_PLACE(a_request_can_be_withdrawn_until_it_is_answered),
        IN_PLACE(what_is_no_request_is_answered_with_the_reason),
        IN_PLACE(a_request_about_the_quarantine_arrives_as_it_was_asked),
        IN_PLACE(too_large_is_refused),
        IN_PLACE(what_is_no_regular_file_is_neither_followed_nor_waited_for),
        IN_PLACE(a_file_with_a_second_name_is_refused),
        IN_PLACE(other_names_are_left_alone),
        IN_PLACE(further_requests_are_refused_when_many_wait),
        IN_PLACE(what_nobody_fetched_goes_after_an_hour),
        IN_PLACE(a_request_is_gone_also_when_its_answer_can_not_be_written),
        IN_PLACE(a_group_may_ask_and_its_members_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
