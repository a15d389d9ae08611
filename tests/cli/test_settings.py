"""`ringfence.toml`: every fault at once with its line, and what each table does."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_estate import ShopEstate, flow_log
from test_bad_input import refused

from ringfence.core.errors import FindingsError
from ringfence.settings import MOST_CHARACTERS, MOST_FAULTS, parse_settings


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ('[idntity]\nignore = ["x"]\n', "there is no key `idntity`", "did you mean `identity`?"),
        ("[flows]\nmax_dais = 3\n", "there is no key `max_dais` under `flows`", "did you mean `max_days`?"),
        ("x = [", "this is not TOML", "tables begin with [name]"),
        ("x = 1\ny = = 2\n", "ringfence.toml:2:5", "tables begin with [name]"),
        ('[flows]\nmax_days = "x"\n', "`flows.max_days` is a text, not a whole number", "settings.md"),
        ("[flows]\nmax_days = -5\n", "`flows.max_days` is less than 0", "0 or more"),
        ('[identity]\nignore = "x"\n', "`identity.ignore` is a text, not a list", "settings.md"),
        (
            '[names]\n"a.b" = ["10.0.0.0/33"]\n',
            "`10.0.0.0/33` under `names` for `a.b` is not an address",
            "one address",
        ),
        ('[[failsafe]]\ndirection = "in"\n', "`cidr` is missing under `failsafe[0]`", "settings.md"),
        (
            '[[failsafe]]\ndirection = "up"\ncidr = "10.0.0.0/8"\nservice = "ssh"\n',
            "`up` cannot stand under `failsafe[0].direction`",
            "write `in` or `out`",
        ),
        (
            '[[failsafe]]\ndirection = "in"\ncidr = "10.0.0.0/99"\nservice = "ssh"\n',
            "`10.0.0.0/99` under `failsafe` is not a CIDR",
            "192.0.2.0/28",
        ),
        (
            '[[failsafe]]\ndirection = "in"\ncidr = "10.0.0.0/8"\nservice = "shh"\n',
            "`shh` under `failsafe` is not a service",
            "did you mean `ssh`?",
        ),
        (
            '[[failsafe]]\ndirection = "in"\ncidr = "10.1.2.3/8"\nservice = "ssh"\n',
            "`10.1.2.3/8` under `failsafe` has host bits set",
            "did you mean `10.0.0.0/8`, or the one address `10.1.2.3`?",
        ),
        ('[names]\n"api" = []\n', "`api` under `names` is not a DNS name", "api.example.com"),
        ('[identity]\nignore = ["pod hash"]\n', "`pod hash` under `identity` is no label key", "letters"),
        ("[labels]\nrole = 1\n", "`labels.role` is a whole number, not a text", "settings.md"),
        ("max_days = 3\n", "there is no key `max_days`", "did you mean `max_days` under `[flows]`?"),
        (b"x = '\xff'", "byte 6 of the file is not UTF-8", "UTF-8"),
    ],
)
def test_settings_are_read_strictly(shop: ShopEstate, text: str | bytes, message: str, help: str) -> None:
    """Every fault of `ringfence.toml` in the file's own words, with the next step; a typing error is guessed."""
    shop.write("ringfence.toml", text)

    told = " ".join(refused(shop, "policy", "test", code="bad-settings").split())

    assert message in told
    assert help in told
    assert not {"`str`", "`int`", "`array`", "`object`"} & set(told.split())


def test_every_fault_of_the_settings_is_told_at_once_with_its_line(shop: ShopEstate) -> None:
    """Five faults, five findings, in the order of the lines; comments and values of several lines do not mislead."""
    shop.write(
        "ringfence.toml",
        """\
# settings = "of the shop"
[identity]
ignore = [
  "pod-template-hash",   # [flows]
  7,
]

[flows]
max_dais = 3
networks = {"vpc-1" = "a", "vpc-2" = 2}
[[failsafe]]
direction = "in"
cidr = "10.0.0.0/8"
service = "ssh"
[[failsafe]]
direction = "out"
cidr = "10.0.0.1/8"
[names]
"b.example" = ["10.0.0.1"]
"a.example" = [
  "10.0.0.1",
  "10.0.0.300",
]
""",
    )

    told = shop.run("policy", "check", "--json").json

    assert told["error"] == "bad-settings"
    assert [(f["where"]["file"], f["where"]["line"], f["message"]) for f in told["findings"]] == [
        ("ringfence.toml", 3, "`identity.ignore[1]` is a whole number, not a text"),
        ("ringfence.toml", 9, "there is no key `max_dais` under `flows`"),
        ("ringfence.toml", 10, "`flows.networks.vpc-2` is a whole number, not a text"),
        ("ringfence.toml", 15, "`service` is missing under `failsafe[1]`"),
        ("ringfence.toml", 17, "`10.0.0.1/8` under `failsafe` has host bits set"),
        ("ringfence.toml", 20, "`10.0.0.300` under `names` for `a.example` is not an address"),
    ]
    assert all(f["help"] for f in told["findings"])


def test_windows_line_ends_count_as_lines(shop: ShopEstate) -> None:
    """The line of a fault is the editor's."""
    shop.write("ringfence.toml", b"[flows]\r\n\r\nmax_days = -1\r\n")

    (found,) = shop.run("policy", "check", "--json").json["findings"]

    assert found["where"]["line"] == 3


def test_the_label_keys_decide_what_a_recommended_policy_is_confined_to(shop: ShopEstate) -> None:
    """`[labels]` beats the conventional keys: the application is the one that is named there."""
    labelled = (shop.root / "inventory/workloads.yaml").read_text().replace("app: shop", "app: shop, product: till")
    shop.write("inventory/workloads.yaml", labelled)
    shop.write("policies/shop.yaml", "")
    shop.write("policies/guardrails.yaml", "")
    shop.write("flows.log", flow_log())
    assert shop.run("flows", "import", "flows.log").code == 0
    usual = shop.run("recommend", "--json").json["policies"]
    assert any("scope: app=shop,env=prod" in text for text in usual.values())

    shop.write("ringfence.toml", '[labels]\napplication = "product"\n')
    named = shop.run("recommend", "--json").json["policies"]

    assert any("scope: env=prod,product=till" in text for text in named.values())
    assert not any("app=shop" in text for text in named.values())


def test_a_label_key_that_nobody_carries_finds_no_role(shop: ShopEstate) -> None:
    """`labels.role` names the tiers: with another key the recommended segments are of that key."""
    labelled = (shop.root / "inventory/workloads.yaml").read_text().replace("role: ", "tier: ")
    shop.write("inventory/workloads.yaml", labelled)
    shop.write("policies/shop.yaml", "")
    shop.write("ringfence.toml", '[labels]\nrole = "tier"\n')
    shop.write("flows.log", flow_log())
    assert shop.run("flows", "import", "flows.log").code == 0

    policies = shop.run("recommend", "--json").json["policies"]

    assert any("tier=web" in text for text in policies.values())


NAMED = """\
policy: out
rules:
  - allow: {from: env=prod, to: api.example.com, service: https}
"""


def test_a_name_matches_the_addresses_the_settings_give_it(shop: ShopEstate) -> None:
    """`[names]` answers for `to: api.example.com`; before it is there the name matches nothing and check says so."""
    shop.write("policies/out.yaml", NAMED)
    asked = ("explain", "web-1", "203.0.113.9", "https", "--json")
    assert shop.run(*asked).json["verdict"] == "blocked"
    assert "fqdn-unresolved" in {f["code"] for f in shop.run("policy", "check", "--json").json["findings"]}

    shop.write("ringfence.toml", '[names]\n"API.example.com." = ["203.0.113.9", "2001:db8::9"]\n')

    told = shop.run(*asked).json
    assert (told["verdict"], told["rule"].startswith("out/")) == ("allowed", True)
    assert shop.run("explain", "web-1", "2001:db8::9", "https", "--json").json["verdict"] == "allowed"
    assert shop.run("explain", "web-1", "203.0.113.10", "https", "--json").json["verdict"] == "blocked"
    assert "fqdn-unresolved" not in {f["code"] for f in shop.run("policy", "check", "--json").json["findings"]}


def test_host_bits_in_a_label_rule_are_corrected(shop: ShopEstate) -> None:
    """The help has the network that was perhaps meant, and the one address."""
    shop.write("inventory/label-rules.yaml", "- when: {cidr: 10.1.2.3/16}\n  set: {site: bonn}\n")

    (found,) = shop.run("policy", "check", "--json").json["findings"]

    assert (found["code"], found["where"]["line"]) == ("bad-cidr", 1)
    assert found["help"] == "did you mean `10.1.0.0/16`, or the one address `10.1.2.3`?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (".".join(["a"] * 200_000) + " = 1", "nested too deeply"),
        (".".join(['"a"'] * 100_000) + " = 1", "nested too deeply"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("#" * (MOST_CHARACTERS + 1), "are too many"),
    ],
    ids=["dotted", "quoted", "nested", "long"],
)
def test_no_text_takes_long(text: str, message: str) -> None:
    """Whatever somebody sends as settings is refused before it costs anything."""
    with pytest.raises(FindingsError, match=message):
        parse_settings(text, Path("ringfence.toml"))


def test_faults_beyond_number_are_not_looked_for() -> None:
    """So many are listed, those that are found last without their line."""
    with pytest.raises(FindingsError) as error:
        parse_settings("\n".join(f"[a{number}]" for number in range(5_000)), Path("ringfence.toml"))
    assert len(error.value.findings) == MOST_FAULTS
    assert {finding.where.line for finding in error.value.findings} > {0, 1}
