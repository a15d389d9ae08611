// The policies, those in force and those being written: whose, over whom, how much they are used, what is wrong.

import { type ReactNode, useMemo } from "react";
import { Link } from "react-router";
import { type Drafts, merged } from "../../parts/drafting";
import { useDrafts } from "../../parts/drafts";
import type { Checked, Rule, Words } from "../../api/types";
import { useKeeping } from "../../shell/query";
import { Badge } from "../../ui/Badge";
import { Empty, ErrorBox, Steps } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { type Column, Table } from "../../ui/Table";
import { brief, count, printable } from "../../words";
import { type InForce, useChecked, useRules, useWords } from "./asked";
import { policyIn } from "./editor/complete";
import { type Beside, usePlace } from "./place";
import css from "./Policies.module.css";
import { findingsOf, hasFailed, tally, type Tally, testsOf } from "./words";

export interface Row {
  file: string;
  name: string;
  owner: string;
  scope: string;
  rules: number;
  /** None: not known yet. */
  hits: number | null;
  /** None: not checked yet. */
  found: Tally | null;
  tests: number;
  failed: number;
  draft: "" | "new" | "changed" | "removed";
}

const HITS_DAYS = 30;

/** One row a file: what is in force says most; of what is only written, the text. */
export function rowsOf(base: InForce, drafts: Drafts, words: Words | undefined, checked: Checked | undefined, rules: readonly Rule[] | undefined): Row[] {
  const files = { ...base.files, ...merged(base.files, drafts) };
  return Object.keys(files).sort().map((file) => {
    const text = files[file] ?? "";
    const known = words?.policies.find((one) => one.file === file);
    const draft = drafts[file];
    const tests = testsOf(checked, file);
    const word = (key: string): string => new RegExp(`^${key}:[ \\t]*["']?([^"'\\n#]+)`, "m").exec(text)?.[1]?.trim() ?? "";
    return {
      file, name: policyIn(text) || known?.name || file, owner: word("owner") || known?.owner || "", scope: word("scope"),
      rules: draft ? rulesIn(text) : (known?.rules ?? rulesIn(text)), hits: hitsOf(rules?.filter((one) => one.file === file), known?.rules ?? 0),
      found: checked ? tally(findingsOf(checked, file)) : null, tests: tests.length, failed: tests.filter(hasFailed).length,
      draft: !draft ? "" : draft.text === null ? "removed" : file in base.files ? "changed" : "new",
    };
  });
}

/** None while they are not known, or where some of the rules are beyond what is listed. */
const hitsOf = (listed: readonly Rule[] | undefined, all: number): number | null =>
  listed === undefined || listed.length < all ? null : listed.reduce((sum, one) => sum + one.connections, 0);

const rulesIn = (text: string): number => [...text.matchAll(/^\s*(?:-\s+)?(?:allow|deny|forbid):/gm)].length;

const COLUMNS: readonly Column<Row>[] = [
  {
    id: "name", name: "Policy", width: "22%", by: (one) => one.name,
    cell: (one) => <><b>{printable(one.name)}</b>{one.draft && <> <Badge tone={one.draft === "removed" ? "bad" : "accent"} mark={one.draft === "removed" ? "−" : one.draft === "new" ? "+" : "~"}>{one.draft === "changed" ? "draft" : one.draft}</Badge></>}</>,
  },
  { id: "owner", name: "Owner", width: "15%", by: (one) => one.owner, isExtra: true, cell: (one) => one.owner ? printable(one.owner) : <span className="soft">nobody</span> },
  { id: "scope", name: "Scope", by: (one) => one.scope, cell: (one) => one.scope ? <span className="mono" title={printable(one.scope)}>{printable(one.scope)}</span> : <span className="soft">the whole estate</span> },
  { id: "rules", name: "Rules", width: "76px", isNumber: true, by: (one) => one.rules, cell: (one) => <To of={one} tab="rules">{count(one.rules)}</To> },
  { id: "hits", name: `Hits, ${HITS_DAYS} d`, width: "98px", isNumber: true, isExtra: true, by: (one) => one.hits ?? -1, cell: (one) => one.hits === null ? "…" : one.hits === 0 ? <span className="soft">none</span> : <To of={one} tab="rules"><span title={count(one.hits)}>{brief(one.hits)}</span></To> },
  { id: "findings", name: "Findings", width: "150px", by: (one) => (one.found ? one.found.errors * 1000 + one.found.warnings : -1), cell: (one) => !one.found ? "…" : <To of={one} beside="problems"><Found of={one.found} /></To> },
  {
    id: "tests", name: "Tests", width: "132px", by: (one) => one.failed * 1000 - one.tests,
    cell: (one) => !one.found ? "…" : one.tests === 0 ? <span className="soft">none</span> : <To of={one} beside="tests">{one.failed ? <Badge tone="bad" mark="✕">{one.failed} of {one.tests} fail</Badge> : <Badge tone="good" mark="✓">{one.tests} proven</Badge>}</To>,
  },
];

/** A number is a way to what it counts. */
function To({ of, tab, beside, children }: { of: Row; tab?: "rules"; beside?: Beside; children: ReactNode }) {
  const keeping = useKeeping();
  const search = new URLSearchParams(tab ? { tab, text: `${of.name}/` } : { file: of.file, beside: beside ?? "problems" });
  return <Link className={css.number} to={keeping(`/policies?${search}`)} onClick={(event) => event.stopPropagation()}>{children}</Link>;
}

function Found({ of }: { of: Tally }) {
  if (of.errors + of.warnings + of.hints === 0) return <span className="soft">none</span>;
  return (
    <>
      {of.errors > 0 && <Badge tone="bad" mark="✕">{of.errors}<span className="hidden"> errors</span></Badge>}{" "}
      {of.warnings > 0 && <Badge tone="warning" mark="!">{of.warnings}<span className="hidden"> warnings</span></Badge>}{" "}
      {of.hints > 0 && <Badge mark="i">{of.hints}<span className="hidden"> hints</span></Badge>}
    </>
  );
}

export function PolicyList({ base, onNew }: { base: InForce; onNew: (() => void) | undefined }) {
  const place = usePlace();
  const { drafts } = useDrafts();
  const words = useWords();
  const checked = useChecked(base, drafts);
  const rules = useRules(HITS_DAYS);
  const rows = useMemo(() => rowsOf(base, drafts, words.data, checked.data?.checked, rules.data?.rules), [base, drafts, words.data, checked.data, rules.data]);
  if (rows.length === 0) return <Nothing onNew={onNew} />;
  if (words.error && !words.data) return <ErrorBox error={words.error} onRetry={() => void words.refetch()} />;
  return (
    <Table
      label="Policies" rows={rows} columns={COLUMNS} idOf={(one) => one.file} nameOf={(one) => printable(one.name)} order={{ id: "name", isDown: false }}
      onOpen={(one) => place.put({ file: one.file, beside: one.failed ? "tests" : "" }, true)}
    />
  );
}

function Nothing({ onNew }: { onNew: (() => void) | undefined }) {
  return (
    <Empty icon="policy" title="No policy is in force" actions={onNew && <Button look="primary" icon="plus" onClick={onNew}>New policy</Button>}>
      <p>A policy says who may talk to whom, by labels. Until there is one, hosts only watch.</p>
      <Steps>
        <p><b>1. Write</b> from a template; the checker and the tests answer while you type.</p>
        <p><b>2. Plan</b> shows what opens, what closes and which traffic would stop.</p>
        <p><b>3. Apply</b> to a few hosts first; each goes back by itself if it cannot be reached.</p>
      </Steps>
    </Empty>
  );
}
