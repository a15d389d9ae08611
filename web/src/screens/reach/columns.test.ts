import { expect, test } from "vitest";
import type { Blast, Reached } from "./asking";
import { applicationOf, columnsOf, groupsOf, linksOf, pathTo, roleOf } from "./columns";

const reached = (hop: number, who: string, via: string, workloads = 1): Reached => ({ hop, who, via, workloads, services: ["tcp/80"], is_bare: false, example: "" });
const blast = (...found: Reached[]): Blast => ({ hops: [], reached: found, truncated: 0, jewels: { "shop.db": ["app=shop,role=db"] } });
const IN_FORCE = blast(reached(1, "app=shop,role=api", "web", 4), reached(2, "app=shop,role=db", "app=shop,role=api", 2), reached(1, "app=pay", "web"));
const DRAFT = blast(reached(1, "app=shop,role=db", "web", 2), reached(1, "app=shop,role=api", "web", 4), reached(2, "app=new", "app=shop,role=db", 9));

test("a draft gains, loses and moves groups, and what is lost stays to be seen but is not counted", () => {
  const groups = groupsOf(IN_FORCE, DRAFT);
  expect(Object.fromEntries(groups.map((one) => [one.who, [one.difference, one.before]]))).toEqual({
    "app=shop,role=db": ["nearer", 2], "app=shop,role=api": ["same", 1], "app=new": ["gained", null], "app=pay": ["lost", 1],
  });
  const [first, second] = columnsOf(groups, new Set());
  expect([first?.workloads, first?.groups, first?.items.length, first?.jewels]).toEqual([6, 2, 3, ["shop.db"]]);
  expect(first?.items[0]?.groups[0]?.who).toBe("app=shop,role=db");
  expect(second?.items.map((one) => one.difference)).toEqual(["gained"]);
});

test("without a draft nothing differs", () => expect(new Set(groupsOf(IN_FORCE, null).map((one) => one.difference))).toEqual(new Set(["same"])));

test("the way there is told in the direction of the connections", () => {
  const groups = groupsOf(IN_FORCE, null);
  expect(pathTo(groups, "app=shop,role=db", "from", "web").map((one) => [one.from, one.to])).toEqual([["web", "app=shop,role=api"], ["app=shop,role=api", "app=shop,role=db"]]);
  expect(pathTo(groups, "app=shop,role=db", "to", "web").map((one) => [one.from, one.to])).toEqual([["app=shop,role=db", "app=shop,role=api"], ["app=shop,role=api", "web"]]);
  expect(pathTo(groups, "nobody", "from", "web")).toEqual([]);
});

test("ends are asked about by what the API takes: addresses by one of them, the beginning as it was asked", () => {
  const bare = { ...reached(1, "addresses that no rule names", "app=shop"), is_bare: true, example: "10.8.0.1" };
  const groups = groupsOf(blast(bare, reached(1, "app=pay", "part of internet")), null);
  expect(pathTo(groups, bare.who, "from", "app=shop,env=prod")[0]?.asked).toEqual({ source: "app=shop", destination: "10.8.0.1" });
  expect(pathTo(groups, "app=pay", "to", "8.8.8.8")[0]?.asked).toEqual({ source: "app=pay", destination: "8.8.8.8" });
});

test("many groups are applications until one is unfolded, and lines follow", () => {
  const many = Array.from({ length: 40 }, (_, n) => reached(1, `app=a${n % 4},env=prod,role=r${n}`, "web"));
  const groups = groupsOf(blast(...many, reached(2, "app=z,role=db", "app=a1,env=prod,role=r1")), null);
  const folded = columnsOf(groups, new Set());
  expect(folded[0]?.items.map((one) => [one.application, one.workloads])).toContainEqual(["app=a1,env=prod", 10]);
  expect(linksOf(folded)).toContainEqual({ from: "1 app=a1,env=prod", to: "2 app=z,role=db", difference: "same" });
  expect(columnsOf(groups, new Set(["app=a1,env=prod"]))[0]?.items.length).toBe(13);
  expect([applicationOf("internet"), roleOf("internet"), roleOf("app=shop,env=prod,role=web,zone=a")]).toEqual(["internet", "", "role=web,zone=a"]);
});
