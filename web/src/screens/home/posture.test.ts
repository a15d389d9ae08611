import { expect, test } from "vitest";
import type { Workload } from "../../api/types";
import { groupsBy, holdsOf, keysOf, fateOf } from "./posture";

const workload = (name: string, labels: Record<string, string>, state: Workload["state"], mode: Workload["mode"] = { in: "observe", out: "observe" }): Workload =>
  ({ uuid: name, name, labels, kind: "host", origin: "agent", mode, addresses: [], state, problems: [], policy_version: 1, agent: "", is_quarantined: false }) as unknown as Workload;

const ESTATE = [
  workload("a", { app: "shop", role: "web" }, "realised", { in: "enforce", out: "observe" }),
  workload("b", { app: "shop" }, "drifted", { in: "observe", out: "observe" }),
  workload("c", { app: "pay" }, "realised", { in: "enforce", out: "enforce" }),
  workload("d", { app: "pay" }, "realised", { in: "enforce", out: "enforce" }),
  workload("e", {}, "unmanaged"),
];

test("a workload without an agent is held by nothing, whatever its mode", () => {
  expect(holdsOf(ESTATE)).toEqual({ enforce: 3, selective: 0, observe: 1, none: 1 });
});

test("the least protected group comes first, and what has no label has a group", () => {
  const groups = groupsBy(ESTATE, "app");
  expect(groups.map((one) => [one.where, one.workloads, one.troubled])).toEqual([["app=shop", 2, 1], ["!app", 1, 0], ["app=pay", 2, 0]]);
  expect(keysOf(ESTATE)).toEqual(["app", "role"]);
});

test("what becomes of traffic adds up, now and if all enforced", () => {
  const { now, then } = fateOf({ hours: 24, connections: 100, covered: 60, uncovered: 30, uncontrolled: 10, would_block: 25, blocked: 15, unheld: 5 });
  const sum = (parts: readonly { value: number }[]): number => parts.reduce((all, part) => all + part.value, 0);
  expect([sum(now), sum(then)]).toEqual([100, 100]);
  expect(now.map((part) => part.value)).toEqual([45, 25, 5, 15, 10]);
  expect(then.map((part) => part.value)).toEqual([45, 45, 10]);
});
