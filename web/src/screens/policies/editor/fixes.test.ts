import { describe, expect, it } from "vitest";
import type { Finding } from "../../../api/types";
import { fixOf, spanOf } from "./fixes";

const finding = (line: number, column: number, text: string, help: string): Finding => ({ code: "x", message: "", severity: "error", where: { file: "a", line, column }, text, help, subject: "" });
const applied = (text: string, told: Finding): string | null => {
  const fix = fixOf(told, text);
  return fix && text.slice(0, fix.from) + fix.insert + text.slice(fix.to);
};
const TEXT = "policy: shop\nrules:\n  - allow: {from: wbe, to: db, service: postgress}\n";

describe("findings in a text", () => {
  it("lie on their words", () => {
    expect(spanOf(finding(3, 19, "wbe", ""), TEXT)).toEqual({ from: 38, to: 41 });
    expect(spanOf(finding(2, 1, "", ""), TEXT)).toEqual({ from: 13, to: 19 });
    expect(spanOf(finding(0, 0, "", ""), TEXT)).toEqual({ from: 0, to: 12 });
    expect(spanOf(finding(99, 1, "", ""), "a")).toEqual({ from: 0, to: 1 });
  });

  it("are mended as their help says", () => {
    expect(applied(TEXT, finding(3, 19, "wbe", "did you mean `web`?"))).toContain("{from: web, to: db");
    expect(applied("to: backup", finding(1, 5, "backup", "did you mean `global: role=backup`?"))).toBe('to: "global: role=backup"');
    expect(applied('to: "backup"', finding(1, 5, "backup", "did you mean `global: role=backup`?"))).toBe('to: "global: role=backup"');
    expect(applied(TEXT, finding(3, 19, "wbe", "known: web, db"))).toBeNull();
    expect(applied(TEXT, finding(3, 19, "gone", "did you mean `web`?"))).toBeNull();
  });
});
