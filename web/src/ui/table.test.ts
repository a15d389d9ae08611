import { expect, test } from "vitest";
import { sorted } from "./Table";

const rows = [{ name: "web-10", n: 1 }, { name: "web-2", n: 3 }, { name: "db", n: 3 }];
const columns = [{ id: "name", by: (row: (typeof rows)[0]) => row.name }, { id: "n", by: (row: (typeof rows)[0]) => row.n }];

test("numbers in names count as numbers", () => {
  expect(sorted(rows, columns, { id: "name", isDown: false }).map((row) => row.name)).toEqual(["db", "web-2", "web-10"]);
});

test("equal rows stay as they came, either way", () => {
  expect(sorted(rows, columns, { id: "n", isDown: true }).map((row) => row.name)).toEqual(["web-2", "db", "web-10"]);
});
