import { expect, test } from "vitest";
import type { Alert } from "../../api/types";
import { caseOf, containmentOf, grouped, suspects } from "./groups";

const alert = (id: string, change: Partial<Alert>): Alert =>
  ({ id, kind: "violation", key: id, severity: "warning", state: "open", count: 1, first: "2026-03-01T10:00:00Z", last: "2026-03-01T10:00:00Z", subject: "web", message: "", details: "{}", ...change });

test("the group with the worst comes first, and the latest within it", () => {
  const alerts = [
    alert("a", { last: "2026-03-01T09:00:00Z" }), alert("b", {}), alert("c", { kind: "drift", severity: "error", subject: "db" }),
  ];
  expect(grouped(alerts, "kind").map((group) => [group.name, group.worst, group.alerts.map((one) => one.id)])).toEqual(
    [["drift", "error", ["c"]], ["violation", "warning", ["b", "a"]]],
  );
});

test("who began it is the first to be isolated, each is named once", () => {
  const details = JSON.stringify({ source: "web", destination: "db", where: "db", service: "tcp/22" });
  expect(suspects(alert("a", { details, subject: "db" }))).toEqual(["web", "db"]);
});

test("the attacked is not offered in place of who attacked", () => {
  const at = (source: string): Alert => alert("a", { details: JSON.stringify({ source, destination: "db", where: "db" }), subject: source });
  const [web, db] = [{ name: "web", is_quarantined: false }, { name: "db", is_quarantined: false }];
  expect(containmentOf(at("web"), [web, db])).toEqual({ first: web, others: [db], outsider: "" });
  expect(containmentOf(at("10.77.0.50"), [db])).toEqual({ first: undefined, others: [db], outsider: "10.77.0.50" });
  expect(containmentOf(at("web"), [{ ...web, is_quarantined: true }, db])).toEqual({ first: undefined, others: [db], outsider: "" });
  expect(containmentOf(alert("a", { kind: "drift", subject: "db" }), [db]).first).toBe(db);
});

test("details that cannot be read say nothing", () => {
  expect(caseOf(alert("a", { details: "[" })).source).toBe("");
});
