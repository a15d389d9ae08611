import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { archiveOf, batched, named } from "./archive";

it("is an archive as tar reads it, long names and empty files included", async () => {
  const long = `${"ü".repeat(70)}.log`;
  const files = [new File(["first"], "a.log"), new File([""], "empty.log"), new File(["x".repeat(513)], long), new File(["second"], "a.log")];
  const { content, packed } = archiveOf(files);
  const folder = mkdtempSync(join(tmpdir(), "archive-"));
  try {
    writeFileSync(join(folder, "it.tar"), new Uint8Array(await content.arrayBuffer()));
    execFileSync("tar", ["-xf", "it.tar"], { cwd: folder });
    const read = (name: string): string => readFileSync(join(folder, name), "utf8");
    expect([read("a.log"), read("empty.log"), read(long), read("2/a.log")]).toEqual(["first", "", "x".repeat(513), "second"]);
  } finally {
    rmSync(folder, { recursive: true });
  }
  expect(packed.map((one) => one.name)).toEqual(["a.log", "empty.log", long, "2/a.log"]);
  expect(packed.at(-1)?.end).toBe(content.size - 1024);
});

it("names nothing that the controller refuses", () => {
  expect(named([".hidden", "a\u202eb", "a/b", "a 1\u202f.log"].map((name) => ({ name, size: 1 })))).toEqual(["_hidden", "a_b", "a_b", "a 1_.log"].map((name, at) => (at === 2 ? `2/${name}` : name)));
});

it("puts all files together that fit", () => {
  const files = [1, 2, 3, 4].map((n) => ({ name: `${n}`, size: 10_000 }));
  const sizes = (most?: number, mostFiles?: number): number[] => batched(files, most, mostFiles).map((one) => one.length);
  expect(sizes()).toEqual([4]);
  expect(sizes(30_000)).toEqual([2, 2]);
  expect(sizes(1000)).toEqual([1, 1, 1, 1]);
  expect(sizes(undefined, 3)).toEqual([3, 1]);
});
