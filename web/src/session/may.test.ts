import { expect, test } from "vitest";
import { outside, refusal } from "./may";

const ROLES = { viewer: ["read"], author: ["read", "propose", "label"], responder: ["read", "quarantine"], administrator: ["read", "quarantine", "label", "propose", "tokens"] };

test("it says who could, and who one is", () => {
  expect(refusal("quarantine", ["viewer"], ROLES)).toBe("To quarantine takes the role responder or administrator; you are viewer.");
  expect(refusal("tokens", ["viewer", "responder"], ROLES)).toBe("To manage tokens and sessions takes the role administrator; you are viewer, responder.");
});

test("a right reaches as far as the scope of the role it comes from", () => {
  const powers = [{ roles: ["author"], scope: "app=shop" }, { roles: ["responder"], scope: "app=pay" }];
  expect(outside("label", { labels: [{ app: "shop" }] }, powers, ROLES)).toBe("");
  expect(outside("label", { labels: [{ app: "shop" }, { app: "pay", role: "db" }] }, powers, ROLES)).toBe("You may change labels over app=shop; this is about a workload with app=pay, role=db.");
  expect(outside("label", { labels: [{}] }, powers, ROLES)).toContain("a workload without labels");
  expect(outside("quarantine", { labels: [{ app: "pay" }] }, powers, ROLES)).toBe("");
  expect(outside("propose", { scopes: ["app=shop,env=prod"] }, powers, ROLES)).toBe("");
  expect(outside("propose", { scopes: ["app=pay"] }, powers, ROLES)).toBe("You may propose policies over app=shop; this is about app=pay.");
  expect(outside("propose", { scopes: [null] }, powers, ROLES)).toContain("the whole estate");
  expect(outside("propose", { scopes: ["app in ("] }, powers, ROLES)).toBe("");
  expect(outside("label", { labels: [{ app: "pay" }] }, [{ roles: ["administrator"], scope: null }], ROLES)).toBe("");
});
