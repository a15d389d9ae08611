// One policy under the pen: files to the left, the text, and beside it what the checker, the tests and the plan say.

import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { changes, merged } from "../../parts/drafting";
import { useDrafts } from "../../parts/drafts";
import { useRefusal } from "../../session/may";
import { Badge } from "../../ui/Badge";
import { Empty, ErrorBox, Tabs } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Select } from "../../ui/Field";
import { Icon } from "../../ui/Icon";
import { printable } from "../../words";
import { type InForce, useChecked, useWords } from "./asked";
import { Changes } from "./Changes";
import { CodeEditor, type EditorHandle } from "./editor/CodeEditor";
import { policyIn } from "./editor/complete";
import { Foreseen } from "./Foreseen";
import { usePlace } from "./place";
import css from "./Policies.module.css";
import { Problems } from "./Problems";
import { overOf } from "./scopes";
import { Stale } from "./Stale";
import { TestList, TestStrip } from "./Tests";
import { findingsOf, isUnreadable, tally, testsOf } from "./words";

export default function Workbench({ base, file }: { base: InForce; file: string }) {
  const place = usePlace();
  const { drafts, write, discard } = useDrafts();
  const words = useWords();
  const asked = useChecked(base, drafts);
  const editor = useRef<EditorHandle>(null);
  const [cursor, setCursor] = useState<{ line: number } | null>(null);
  const files = useMemo(() => merged(base.files, drafts), [base, drafts]);
  const changed = useMemo(() => changes(base.files, drafts), [base, drafts]);
  const names = Object.keys({ ...base.files, ...drafts }).sort();
  const text = files[file];
  const over = useMemo(() => overOf([{ before: base.files[file] ?? "", after: base.files[file] ?? "" }]), [base, file]);
  const why = useRefusal("propose", over);
  const mayWrite = why === "";
  const checked = asked.data?.checked;
  const findings = useMemo(() => findingsOf(checked, file), [checked, file]);
  const mine = changed.find((one) => one.file === file);
  const tests = testsOf(checked, file);
  const found = tally(findings);

  const change = useCallback((now: string) => write(file, now, { was: base.files[file] ?? null, version: base.number }), [write, file, base]);
  const open = (next: string, line = 0): void => (place.put({ file: next, line: line ? String(line) : "" }, next !== file), line && next === file ? setCursor({ line }) : undefined);
  const line = Number(place.get("line")) || 0;
  useEffect(() => {
    if (line && text !== undefined) editor.current?.goTo(line);
  }, [file, line, cursor, text === undefined]);

  const all = checked?.findings ?? [];
  const tabs = [
    { id: "problems", name: "Findings", count: all.length }, { id: "tests", name: "Tests", count: checked?.tests.length ?? 0 },
    { id: "diff", name: "Diff", count: changed.length }, { id: "plan", name: "Plan" },
  ];
  return (
    <div className={css.bench}>
      <nav className={css.rail} aria-label="Policy files">
        <Button look="quiet" isTight icon="undo" onClick={() => place.put({ file: "", line: "", beside: "" }, true)}>All policies</Button>
        <ul>{names.map((one) => <FileLine key={one} file={one} isOpen={one === file} draft={changed.some((other) => other.file === one)} errors={tally(findingsOf(checked, one)).errors} onOpen={() => open(one)} />)}</ul>
      </nav>
      <div className={css.pad}>
        <header className={css.padHead}>
          <span className={css.narrow}>
            <Button look="quiet" isTight icon="undo" aria-label="All policies" onClick={() => place.put({ file: "", line: "", beside: "" }, true)} />
            <Select name="Policy file" isTight values={names.map((one) => [one, one] as const)} value={file} onChange={(event) => open(event.target.value)} />
          </span>
          <h2>{printable((text !== undefined && policyIn(text)) || file)}</h2><span className="soft mono">{printable(file)}</span>
          {mine && <Badge tone={mine.kind === "removed" ? "bad" : "accent"}>{mine.kind === "changed" ? "draft" : mine.kind}</Badge>}
          <span className={css.last}>
            {mine && <Button isTight look="quiet" icon="undo" onClick={() => (discard(file), mine.kind === "new" && place.put({ file: "" }))}>Discard</Button>}
            {text !== undefined && <Button isTight look="quiet" needs="propose" over={over} onClick={() => write(file, null, { was: base.files[file] ?? null, version: base.number })}>Remove</Button>}
          </span>
        </header>
        {mine?.isStale && <Stale base={base} change={mine} />}
        {!mayWrite && <p className={css.readOnly}><Icon name="lock" size={14} />{why}</p>}
        {text === undefined ? (
          <Empty icon="policy" title={mine ? "This policy goes" : "There is no such policy"} actions={mine && <Button onClick={() => discard(file)}>Keep it</Button>}>
            <p>{mine ? "It stays in force until the drafts are applied." : `No file ${printable(file)} is in force, and none is being written.`}</p>
          </Empty>
        ) : (
          <CodeEditor key={file} handle={editor} file={file} text={text} isReadOnly={!mayWrite} words={words.data} findings={findings} checked={asked.data?.files[file]} onChange={change} />
        )}
        <TestStrip tests={tests} found={found} isUnreadable={isUnreadable(checked)} isAsking={asked.isFetching} onOpen={(which) => place.put({ beside: which })} />
      </div>
      <section className={css.beside} aria-label="What it does">
        <div className={css.besideHead}><Tabs label="Beside the text" tabs={tabs} chosen={place.beside} onChoose={(id) => place.put({ beside: id })} panel="beside" /></div>
        <div id="beside" role="tabpanel" aria-label={tabs.find((tab) => tab.id === place.beside)?.name} className={css.besideBody} tabIndex={0}>
          {asked.error && <ErrorBox error={asked.error} onRetry={() => void asked.refetch()} />}
          {place.beside === "problems" && <Problems findings={all} file={file} texts={asked.data?.files ?? files} isReady={checked !== undefined} more={checked?.truncated ?? 0} onOpen={open} onFix={mayWrite ? (fix) => editor.current?.apply(fix) : undefined} />}
          {place.beside === "tests" && <TestList tests={checked?.tests ?? []} file={file} isReady={checked !== undefined} onOpen={open} />}
          {place.beside === "diff" && <Changes changed={changed} onOpen={open} />}
          {place.beside === "plan" && <Foreseen base={base} changed={changed} files={files} isSound={!isUnreadable(checked)} />}
        </div>
      </section>
    </div>
  );
}

function FileLine({ file, isOpen, draft, errors, onOpen }: { file: string; isOpen: boolean; draft: boolean; errors: number; onOpen: () => void }) {
  return (
    <li>
      <button type="button" aria-current={isOpen || undefined} onClick={onOpen} title={printable(file)}>
        <span>{printable(file)}</span>
        {draft && <i title="draft"><span className="hidden">draft</span></i>}
        {errors > 0 && <b>{errors}<span className="hidden"> wrong</span></b>}
      </button>
    </li>
  );
}
