import { describe, expect, it } from "vitest";
import { changes, type DraftFile, merged, read, rebased, written } from "./drafting";

const AT = "2026-01-01T00:00:00Z";
const draft = (text: string | null, was: string | null): DraftFile => ({ text, was, version: 1, at: AT });

describe("drafts", () => {
  it("lie over what is in force", () => {
    expect(merged({ a: "1", b: "2", c: "3" }, { b: draft("two", "2"), c: draft(null, "3"), d: draft("4", null) })).toEqual({ a: "1", b: "two", d: "4" });
  });

  it("are changes by name, those behind what is in force marked", () => {
    const told = changes({ a: "1", b: "2b" }, { b: draft("two", "2"), a: draft("one", "1"), n: draft("", null) });
    expect(told.map((one) => [one.file, one.kind, one.isStale])).toEqual([["a", "changed", false], ["b", "changed", true], ["n", "new", false]]);
  });

  it("end where they say what is in force", () => {
    const begun = { was: "x", version: 3, at: AT };
    const one = written({}, "a", "y", begun);
    expect(one.a).toEqual({ text: "y", was: "x", version: 3, at: AT });
    expect(written(one, "a", "x", { ...begun, was: "other", version: 9 })).toEqual({});
  });

  it("go onto a newer version where they touch other lines, and say where they do not", () => {
    const mine = draft("1\ntwo\n3\n4\n5\n6\n", "1\n2\n3\n4\n5\n6\n");
    expect(rebased(mine, "1\n2\n3\n4\n5\nsix\n", 2, "both")).toMatchObject({ text: "1\ntwo\n3\n4\n5\nsix\n", version: 2 });
    expect(rebased(mine, "1\nzwei\n3\n4\n5\n6\n", 2, "both")).toBeNull();
    expect(rebased(mine, "other", 2, "mine")).toMatchObject({ text: mine.text, was: "other", version: 2 });
  });

  it("are read back, whatever else lies in the store", () => {
    expect(read(JSON.stringify({ a: draft("y", "x"), b: 7, c: { text: 1 } }))).toEqual({ a: draft("y", "x") });
    expect(read("{")).toEqual({});
    expect(read(null)).toEqual({});
  });
});
