// SPDX-License-Identifier: Apache-2.0
#include "sender/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/linkkey.h"
#include "common/signature.h"
#include "proto/datagram.h"
#include "tests/unit/sender_scratch.h"

enum { TEXT_SIZE = 4096 };

static int set_up(void **state)
{
    static struct scratch scratch;
    char secret[100], public[100], link[100];
    const char *existing;
    struct signature_public key;
    scratch_open(&scratch);
    scratch_mkdir(&scratch, "spool");
    scratch_mkdir(&scratch, "state");
    scratch_mkdir(&scratch, "run");
    snprintf(secret, sizeof secret, "%s/sender.key", scratch.path);
    snprintf(public, sizeof public, "%s/sender.pub", scratch.path);
    snprintf(link, sizeof link, "%s/link.key", scratch.path);
    if (signature_generate(secret, public, &existing, &key) != STATUS_OK || linkkey_generate(link) != STATUS_OK)
        return -1;
    *state = &scratch;
    return 0;
}

static int tear_down(void **state)
{
    scratch_close(*state);
    return 0;
}

/* A whole configuration in which line `line` (from 1) is replaced by `text`; 0 replaces none. */
static enum status load(const struct scratch *scratch, int line, const char *text, struct config *config)
{
    static const char *const lines[] = {"[sender]",
                                        "spool = @/spool",
                                        "state = @/state",
                                        "status = @/run/status.json",
                                        "signing_key = @/sender.key",
                                        "settle = 2s",
                                        "[link]",
                                        "peer = 127.0.0.1:5100",
                                        "rate = 1Gbit/s",
                                        "mtu = 1500",
                                        "key = @/link.key",
                                        "[fec]",
                                        "burst = 5ms",
                                        "[channel models]",
                                        "priority = low",
                                        "complete = marker",
                                        "symlinks = inside",
                                        "[replay]",
                                        "retain = 7d"};
    char file[100], body[TEXT_SIZE] = "";
    size_t used = 0;
    for (int i = 0; i < (int)(sizeof lines / sizeof lines[0]); i++) {
        for (const char *next = i + 1 == line ? text : lines[i]; *next != '\0'; next++) {
            if (*next == '@')
                used += (size_t)snprintf(body + used, sizeof body - used, "%s", scratch->path);
            else
                body[used++] = *next;
        }
        body[used++] = '\n';
    }
    body[used] = '\0';
    scratch_write(scratch, "sender.conf", body);
    snprintf(file, sizeof file, "%s/sender.conf", scratch->path);
    return config_load(file, NULL, config);
}

/* With line `line` replaced by `text` there is a problem, reported at that line with `word` in it. */
static void assert_problem(const struct scratch *scratch, int line, const char *text, const char *word)
{
    struct config config;
    char said[TEXT_SIZE] = "", where[32];
    scratch_write(scratch, "said", "");
    int saved = dup(STDERR_FILENO);
    int fd = openat(scratch->fd, "said", O_RDWR | O_CLOEXEC);
    dup2(fd, STDERR_FILENO);
    enum status status = load(scratch, line, text, &config);
    dup2(saved, STDERR_FILENO);
    close(saved);
    ssize_t got = pread(fd, said, sizeof said - 1, 0);
    close(fd);
    said[got > 0 ? got : 0] = '\0';
    snprintf(where, sizeof where, "sender.conf:%d:", line);
    if (status != STATUS_INVALID || strstr(said, word) == NULL || strstr(said, where) == NULL)
        fail_msg("\"%s\" gave status %d and: %s", text, (int)status, said);
}

static void a_sound_file_is_loaded_in_machine_units(void **state)
{
    struct config config;
    assert_int_equal(load(*state, 0, "", &config), STATUS_OK);
    assert_int_equal(config.settle_ns, 2000000000);
    assert_int_equal(config.settle_tree_ns, 30000000000);
    assert_int_equal(config.rate_bits_per_s, 1000000000);
    assert_int_equal(config.lanes, 1);
    assert_true(config.carrier_required);
    assert_non_null(config.link_key);
    assert_int_equal(config.source_symbols, 128);
    assert_int_equal(config.repair_symbols, 16);
    assert_int_equal(config.retain_ns, UINT64_C(7) * 86400 * 1000000000);
    assert_int_equal(config.retain_bytes, UINT64_C(500) << 30);
    assert_int_equal(config.retain_free, 0);
    assert_true(config.idle_resend);
    assert_int_equal(config.idle_copies, 2);
    assert_int_equal(config.idle_share, 50);
    assert_int_equal(config.idle_window_ns, UINT64_C(86400) * 1000000000);
    assert_null(config.replay_group);
    assert_int_equal(config.symbol_size, datagram_symbol_size_for_mtu(1500, false));
    assert_string_equal(config.interface, "lo");
    const struct config_channel *models = config_channel_find(&config, "models");
    assert_int_equal(models->priority, CONFIG_PRIORITY_LOW);
    assert_int_equal(models->complete, CONFIG_COMPLETE_MARKER);
    assert_int_equal(models->symlinks, CONFIG_SYMLINKS_INSIDE);
    const struct config_channel *other = config_channel_find(&config, "other");
    assert_int_equal(other->priority, CONFIG_PRIORITY_NORMAL);
    assert_int_equal(other->complete, CONFIG_COMPLETE_SETTLE);
    assert_int_equal(other->symlinks, CONFIG_SYMLINKS_REFUSE);
    config_deinit(&config);
}

static void the_depth_is_what_a_burst_at_the_rate_needs(void **state)
{
    struct config config;
    uint64_t wire_bits = datagram_wire_bits(datagram_symbol_size_for_mtu(1500, false), false);
    assert_int_equal(load(*state, 0, "", &config), STATUS_OK);
    uint64_t datagrams = (5000000 + wire_bits - 1) / wire_bits;
    assert_int_equal(config.depth, (datagrams + 7) / 8);
    config_deinit(&config);
    assert_int_equal(config_depth(1000000, 0, 12000, 16), 1);
    assert_int_equal(config_depth(1000000000, 12000, 12000, 5), 1);
    assert_int_equal(config_depth(1000000000, 120000, 12000, 5), 4); /* 10 datagrams over 2.5 */
    assert_int_equal(config_depth(UINT64_C(1000000000000), UINT64_C(60000000000), 12000, 4), UINT64_C(2500000000));
}

static void mtu_auto_follows_the_route_and_stops_at_9000(void **state)
{
    struct config config;
    assert_int_equal(load(*state, 10, "mtu = auto", &config), STATUS_OK);
    assert_int_equal(config.mtu, 0);
    assert_int_equal(config.symbol_size, datagram_symbol_size_for_mtu(9000, false));
    config_deinit(&config);
}

static void directories_that_are_missing_or_wrong_are_named_with_the_command(void **state)
{
    assert_problem(*state, 2, "spool = @/none", "mkdir -p");
    assert_problem(*state, 2, "spool = relative", "absolute");
    assert_problem(*state, 3, "state = @/sender.key", "not a directory");
    assert_problem(*state, 4, "status = @/none/status.json", "mkdir -p");
    assert_problem(*state, 4, "status = @/run/", "not the absolute path of a file");
}

static void keys_that_can_not_be_loaded_are_named(void **state)
{
    assert_problem(*state, 5, "signing_key = @/none.key", "none.key");
    assert_problem(*state, 5, "signing_key = @/sender.pub", "sender.pub");
    assert_problem(*state, 11, "key = @/none.key", "none.key");
    assert_problem(*state, 11, "key = @/sender.pub", "sender.pub");
}

static void addresses_units_and_ranges_are_checked(void **state)
{
    assert_problem(*state, 8, "peer = somewhere.example:4700", "numeric");
    assert_problem(*state, 8, "peer = 127.0.0.1", "numeric");
    assert_problem(*state, 8, "peer = 127.0.0.1:70000", "numeric");
    assert_problem(*state, 9, "rate = 1 gigabit", "rate");
    assert_problem(*state, 9, "rate = 1kbit/s", "between");
    assert_problem(*state, 9, "lanes = 17", "between 1 and 16");
    assert_problem(*state, 9, "lanes = 0", "between 1 and 16");
    assert_problem(*state, 10, "mtu = 100", "576 to 9216");
    assert_problem(*state, 10, "mtu = big", "mtu");
    assert_problem(*state, 10, "carrier = perhaps", "require, ignore");
    assert_problem(*state, 13, "burst = 5", "burst");
    assert_problem(*state, 13, "burst = 59s", "4096");
    assert_problem(*state, 13, "source_symbols = 1", "too small for an announce");
    assert_problem(*state, 13, "source_symbols = 201", "between 1 and 200");
    assert_problem(*state, 13, "repair_symbols = 3", "between 4 and 55");
    assert_problem(*state, 13, "repair_symbols = 56", "between 4 and 55");
    assert_problem(*state, 6, "settle = soon", "settle");
    assert_problem(*state, 6, "max_size = 0", "max_size");
}

static void channels_and_unknown_keys_are_checked(void **state)
{
    assert_problem(*state, 15, "priority = urgent", "high, normal, low");
    assert_problem(*state, 16, "complete = maybe", "settle, rename, marker");
    assert_problem(*state, 17, "symlinks = outside", "refuse, inside");
    assert_problem(*state, 17, "colour = blue", "colour");
    assert_problem(*state, 6, "setle = 1s", "setle");
}

static void retention_and_resending_are_checked(void **state)
{
    assert_problem(*state, 19, "retain_free = much", "retain_free");
    assert_problem(*state, 19, "idle_copies = 0", "between 1 and 100");
    assert_problem(*state, 19, "idle_share = 0", "between 1 and 100");
    assert_problem(*state, 19, "idle_share = 101", "between 1 and 100");
    assert_problem(*state, 19, "idle_window = 1", "idle_window");
    assert_problem(*state, 19, "group = no-such-group-here", "groupadd");
    assert_problem(*state, 19, "group =", "leave the key out");
    assert_problem(*state, 19, "idle_window = 0s", "idle_resend = off");
    assert_problem(*state, 17, "retain = 0s", "no bound");
    assert_problem(*state, 17, "retain_bytes = 0", "no bound");
    assert_problem(*state, 17, "retain_bytes = few", "retain_bytes");
}

static void a_channel_and_the_link_have_retention_of_their_own(void **state)
{
    struct config config;
    assert_int_equal(load(*state, 17, "retain = 2h", &config), STATUS_OK);
    assert_int_equal(config_channel_find(&config, "models")->retain_ns, UINT64_C(7200) * 1000000000);
    assert_int_equal(config_channel_find(&config, "models")->retain_bytes, 0);
    assert_int_equal(config_channel_find(&config, "other")->retain_ns, 0);
    config_deinit(&config);
    assert_int_equal(load(*state, 17, "retain_bytes = 5GiB", &config), STATUS_OK);
    assert_int_equal(config_channel_find(&config, "models")->retain_bytes, UINT64_C(5) << 30);
    config_deinit(&config);
    assert_int_equal(load(*state, 19, "retain_free = 10GiB", &config), STATUS_OK);
    assert_int_equal(config.retain_free, UINT64_C(10) << 30);
    config_deinit(&config);
    assert_int_equal(load(*state, 19, "group = root", &config), geteuid() == 0 ? STATUS_OK : STATUS_INVALID);
    config_deinit(&config);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_sound_file_is_loaded_in_machine_units),
        TEST(the_depth_is_what_a_burst_at_the_rate_needs),
        TEST(mtu_auto_follows_the_route_and_stops_at_9000),
        TEST(directories_that_are_missing_or_wrong_are_named_with_the_command),
        TEST(keys_that_can_not_be_loaded_are_named),
        TEST(addresses_units_and_ranges_are_checked),
        TEST(channels_and_unknown_keys_are_checked),
        TEST(retention_and_resending_are_checked),
        TEST(a_channel_and_the_link_have_retention_of_their_own),
    };
    if (signature_init() != STATUS_OK)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
