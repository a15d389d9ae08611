"""YAML or JSON text -> drafts: a list of workloads, each a mapping. A key whose value is null says nothing."""

from __future__ import annotations

from ringfence.core.policy.yaml import Mapping, Node, Sequence
from ringfence.inventory.files.draft import TEXT_KEYS, AddressDraft, Draft, Findings, Text
from ringfence.inventory.files.nodes import Nodes

KEYS = (*TEXT_KEYS, "labels", "addresses", "services", "mode")
ADDRESS_KEYS = ("address", "from", "to", "network")


def yaml_drafts(text: str, file: str, findings: Findings) -> list[Draft]:
    """Every workload of every document as a draft; faults of shape go to `findings`."""
    nodes = Nodes(file, findings)
    entries = [entry for root in nodes.roots(text) for entry in nodes.items(root, "an inventory")]
    return [_draft(entry, nodes) for entry in entries]


def _draft(entry: Node, nodes: Nodes) -> Draft:
    said = {key: value for key, (_, value) in nodes.mapping(entry, "a workload", KEYS).items()}
    texts = {key: nodes.text(said[key], f"`{key}`") for key in TEXT_KEYS if key in said}
    return Draft(
        nodes.file,
        Text("", entry.line, entry.column),
        _present(texts) | (_mode(said["mode"], nodes) if "mode" in said else {}),
        _labels(said["labels"], nodes) if "labels" in said else (),
        _addresses(said["addresses"], nodes) if "addresses" in said else (),
        tuple(nodes.texts(said["services"], "a service")) if "services" in said else (),
        is_readable=isinstance(entry, Mapping),
    )


def _present(texts: dict[str, Text | None]) -> dict[str, Text]:
    return {key: text for key, text in texts.items() if text is not None}


def _mode(node: Node, nodes: Nodes) -> dict[str, Text]:
    """`enforce`, or `{in: enforce, out: observe}`."""
    if not isinstance(node, Mapping):
        return _present({"mode": nodes.text(node, "`mode`")})
    directions = nodes.mapping(node, "`mode`", ("in", "out"))
    return _present({f"mode:{key}": nodes.text(value, f"`mode: {key}`") for key, (_, value) in directions.items()})


def _labels(node: Node, nodes: Nodes) -> tuple[tuple[Text, Text], ...]:
    written = nodes.mapping(node, "`labels`")
    pairs = [(key, nodes.text(value, f"the label `{name}`")) for name, (key, value) in written.items()]
    return tuple((key, value) for key, value in pairs if value is not None)


def _addresses(node: Node, nodes: Nodes) -> tuple[AddressDraft, ...]:
    """One address or a list of them."""
    drafts = [_address(item, nodes) for item in (node.items if isinstance(node, Sequence) else [node])]
    return tuple(draft for draft in drafts if draft is not None)


def _address(node: Node, nodes: Nodes) -> AddressDraft | None:
    """`10.0.0.1`, or `{address: 10.0.0.1, from: ..., to: ..., network: ...}`."""
    if not isinstance(node, Mapping):
        text = nodes.text(node, "an address")
        return None if text is None else AddressDraft(text)
    said = nodes.mapping(node, "an address", ADDRESS_KEYS)
    texts = _present({key: nodes.text(value, f"`{key}`") for key, (_, value) in said.items()})
    if "address" not in texts:
        nodes.findings.add("missing-key", "an address needs its `address`", nodes.place(node))
        return None
    return AddressDraft(texts["address"], texts.get("from"), texts.get("to"), texts.get("network"))
