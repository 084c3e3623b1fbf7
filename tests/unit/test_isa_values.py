"""What a verdict says of itself."""

import json

import pytest

from belljar.audit.isa import By, Coverage, Evidence, Extension, IsaFacts, Tier
from belljar.audit.isa.survey import _NAMED

EVIDENCE = Evidence(
    need="x86-64-v3", root="PyInit_x", chain=("start", "0x10"), address=0x20, instruction="vzeroupper"
)


@pytest.mark.parametrize("tier", list(Tier))
def test_only_what_is_proven_and_no_variant_may_fail_a_gate(tier):
    facts = IsaFacts(arch="x86_64", needs="x86-64-v3", tier=tier)
    assert facts.is_proven == (tier in (Tier.CERTAIN, Tier.FIRM))
    assert not IsaFacts(arch="x86_64", needs="x86-64-v3", tier=tier, variant=True).is_proven


def test_json_holds_all_that_is_known():
    facts = IsaFacts(
        arch="x86_64",
        needs="x86-64-v2",
        by=By.LOAD,
        tier=Tier.CERTAIN,
        suspected="x86-64-v3",
        dispatched=(("x86-64-v4", 3),),
        extensions=(Extension(name="AES", tier=Tier.POSSIBLE, functions=2),),
        evidence=(EVIDENCE,),
        functions=("f",),
        coverage=Coverage(described=300, gaps=100, decoded=400),
    )
    assert json.loads(json.dumps(facts.to_json())) == {
        "arch": "x86_64",
        "needs": "x86-64-v2",
        "by": "load",
        "tier": "certain need",
        "suspected": "x86-64-v3",
        "dispatched": {"x86-64-v4": 3},
        "extensions": [{"name": "AES", "tier": "possible", "functions": 2}],
        "evidence": [
            {
                "need": "x86-64-v3",
                "root": "PyInit_x",
                "chain": ["start", "0x10"],
                "address": "0x20",
                "instruction": "vzeroupper",
            }
        ],
        "functions": ["f"],
        "coverage": {"described": 300, "gaps": 100, "decoded": 400, "share": 0.75},
        "variant": False,
        "note": "",
    }


def test_evidence_reads_as_a_chain():
    assert str(EVIDENCE) == "x86-64-v3: PyInit_x -> start -> 0x10: 0x20 vzeroupper"


@pytest.mark.parametrize(
    "name",
    ["sum_avx2", "sdot_k_PRESCOTT", "_ZN8simdjson7haswell5parseEv", "_ZN5arrow20ByteStreamEncodeAvx2Ei",
     "ZSTD_count_bmi2", "crc32_pclmul", "dotp.arch_x86-64-v4.1", "poly1305_sse41", "aesni_encrypt"],
)  # fmt: skip
def test_names_that_tell_their_cpu_are_known(name):
    assert _NAMED.search(name)


@pytest.mark.parametrize(
    "name", ["main", "assess", "parse", "frozen_lake", "fmadd", "release", "possess", "dense1"]
)
def test_other_names_are_not_taken_for_a_cpu(name):
    assert not _NAMED.search(name)
