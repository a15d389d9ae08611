import { expect, test } from "vitest";
import { labelsOf, lifeOf, rangesOf, size, wrongLabels } from "./words";

test("labels are read as they are written, and half of one is none", () => {
  expect(labelsOf(" app=shop , role=web")).toEqual({ app: "shop", role: "web" });
  expect(labelsOf("")).toEqual({});
  expect([labelsOf("app"), labelsOf("=x"), labelsOf("app="), labelsOf("a b=c")]).toEqual([null, null, null, null]);
});

test("a token is open until it is revoked, has ended or is used up", () => {
  const now = Date.parse("2026-03-01T12:00:00Z");
  expect(lifeOf({}, now)).toBe("open");
  expect(lifeOf({ expires: "2026-03-01T12:00:00Z", uses_left: 3 }, now)).toBe("ended");
  expect(lifeOf({ expires: "2026-03-02T12:00:00Z", uses_left: 0 }, now)).toBe("used");
  expect(lifeOf({ revoked_at: "2026-01-01T00:00:00Z", uses_left: 0 }, now)).toBe("revoked");
});

test("sizes by thousands", () => expect([size(999), size(1500), size(2_340_000), size(123_400_000)]).toEqual(["999 B", "1.5 kB", "2.3 MB", "123 MB"]));

test("labels and ranges that cannot be meant are refused, with what may be meant", () => {
  expect(labelsOf("app=shop, role=web")).toEqual({ app: "shop", role: "web" });
  expect(labelsOf("")).toEqual({});
  for (const text of ["app==shop,,", "app", "app=", "app=a b", "=shop", "app=shop,"]) expect(labelsOf(text), text).toBeNull();
  expect(wrongLabels("app==shop,,")).toBe("Did you mean app=shop?");
  expect(wrongLabels("app")).toBe("Write labels as key=value, with commas between.");
  expect(rangesOf("10.1.0.0/16\n2001:db8:7::/48, 10.1.0.0/16")).toEqual({ ranges: ["10.1.0.0/16", "2001:db8:7::/48"], wrong: "" });
  expect(rangesOf("shop").wrong).toContain("shop is no range");
  expect(rangesOf(" ").wrong).not.toBe("");
});
