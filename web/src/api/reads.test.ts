import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { asking, nextOf } from "./reads";

interface Operation {
  parameters?: { name: string }[];
  security?: unknown[];
}

test("what only asks is what the description gives no idempotency key", () => {
  const document = JSON.parse(readFileSync("../docs/reference/openapi.json", "utf8")) as { paths: Record<string, { post?: Operation }> };
  const keyless = Object.entries(document.paths).filter(([, { post }]) => post && !post.security && !post.parameters?.some((one) => one.name === "Idempotency-Key"));
  expect(keyless.map(([path]) => path).sort()).toEqual(asking());
});

test("a list goes on where its link leads", () => {
  expect(nextOf('</v1/tokens?limit=2&after=0017~a%3Db>; rel="next"')).toBe("0017~a=b");
  expect(nextOf('</v1/tokens?after=x>; rel="prev"')).toBeNull();
  expect(nextOf(null)).toBeNull();
});
