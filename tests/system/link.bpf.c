// SPDX-License-Identifier: Apache-2.0
/*
 * A lossy link for the tests: independent loss and periodic bursts on the ingress of an interface. Compiled by
 * namespaces.py with LOSS_PER_MILLION, BURST_NS and PERIOD_NS defined. The helpers are declared here so that no BPF
 * library is needed.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

static __u32 (*get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static __u64 (*ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;

__attribute__((section("tc"), used)) int lossy_link(struct __sk_buff *packet)
{
    (void)packet;
    if (ktime_get_ns() % PERIOD_NS < BURST_NS) {
        return TC_ACT_SHOT;
    }
    return get_prandom_u32() % 1000000 < LOSS_PER_MILLION ? TC_ACT_SHOT : TC_ACT_OK;
}

char license_text[] __attribute__((section("license"), used)) = "Apache-2.0";
