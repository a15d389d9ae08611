import { describe, expect, it } from "vitest";
import type { Words } from "../../../api/types";
import { entriesOf, offersAt, policyIn } from "./complete";

const WORDS: Words = {
  labels: [
    { key: "app", workloads: 9, values: { shop: 5, pay: 4 }, more: 0, is_ignored: false },
    { key: "role", workloads: 9, values: { web: 3, db: 6 }, more: 0, is_ignored: false },
    { key: "rack", workloads: 9, values: {}, more: 0, is_ignored: true },
  ],
  segments: [
    { name: "shop.web", policy: "shop", selector: "role=web", workloads: 3, is_crown_jewel: false },
    { name: "pay.api", policy: "pay", selector: "app=pay", workloads: 4, is_crown_jewel: false },
  ],
  services: [{ name: "postgres", ports: "tcp/5432", policy: "" }],
  policies: [],
  peers: ["anyone", "internet", "private"],
};
const TEXT = `policy: shop
segments:
  web: role=web
  db: {selector: role=db, crown_jewel: true}
services:
  ledger: tcp/9000
rules:
  - allow: {from: web, to: db, service: ledger}
`;
const at = (line: string): string[] => {
  const text = `${TEXT}${line}`;
  return offersAt(text, text.length, WORDS)?.offers.map((one) => one.label) ?? [];
};

describe("completion", () => {
  it("offers ends: own segments, words, labels, others' segments by their whole name", () => {
    expect(at("  - allow: {from: ")).toEqual(["web", "db", "anyone", "internet", "private", "app", "role", "pay.api", "global:"]);
    expect(at("  - allow: {from: [web, ")).toContain("pay.api");
  });

  it("offers the values of a label, in what was begun and in quotes", () => {
    expect(at("  - allow: {from: role=")).toEqual(["web", "db"]);
    expect(at('  - allow: {from: "app=shop,role=')).toEqual(["web", "db"]);
    expect(at('  - allow: {from: "global: app=')).toEqual(["shop", "pay"]);
  });

  it("replaces what was begun, no more", () => {
    const text = `${TEXT}  - allow: {from: role=w`;
    expect(offersAt(text, text.length, WORDS)?.from).toBe(text.length - 1);
  });

  it("offers services, expectations and conditions where they belong", () => {
    expect(at("  - allow: {from: web, to: db, service: ")).toEqual(["ledger", "postgres"]);
    expect(at("  - allow: {from: web, to: db, require: ")).toEqual(["mutual-tls"]);
    expect(at("tests:\n  - {from: web, to: db, expect: ")).toEqual(["allowed", "blocked"]);
  });

  it("offers the keys of the place", () => {
    expect(at("")).toContain("tests");
    expect(at("  - ")).toContain("allow");
    expect(at("  - allow: {from: web, ")).toContain("service");
    expect(at("tests:\n  - {from: web, ")).toContain("expect");
    expect(at("  # from: ")).toEqual([]);
  });

  it("offers labels for a scope and for segments", () => {
    expect(at("scope: ")).toEqual(["app", "role"]);
    expect(at("segments:\n  api: ")).toEqual(["app", "role"]);
    expect(at("segments:\n  api: role=")).toEqual(["web", "db"]);
  });
});

it("reads sections of a text that is not whole", () => {
  expect(entriesOf(TEXT, "segments").map(([name]) => name)).toEqual(["web", "db"]);
  expect(entriesOf("segments:\n  a: b=c", "segments")).toEqual([["a", "b=c"]]);
  expect(policyIn(TEXT)).toBe("shop");
});
