// The tests of the policies, run while one types: a strip under the text, and each with its story.

import type { TestOutcome } from "../../api/types";
import { Badge, type Tone } from "../../ui/Badge";
import { Code, Empty, Loading } from "../../ui/Box";
import { Icon } from "../../ui/Icon";
import { count, plural, printable } from "../../words";
import css from "./Policies.module.css";
import { hasFailed, type Tally, testStory, worstFirst } from "./words";

const LOOK: Record<TestOutcome["outcome"], { tone: Tone; mark: string; word: string }> = {
  proven: { tone: "good", mark: "✓", word: "holds" }, failed: { tone: "bad", mark: "✕", word: "fails" },
  unmatched: { tone: "bad", mark: "∅", word: "picks nobody" }, warning: { tone: "warning", mark: "!", word: "could fail" },
};

export function TestStrip({ tests, found, isUnreadable, isAsking, onOpen }: { tests: readonly TestOutcome[]; found: Tally; isUnreadable: boolean; isAsking: boolean; onOpen: (which: string) => void }) {
  const failed = tests.filter(hasFailed);
  const [worst] = worstFirst(failed);
  return (
    <footer className={css.strip} data-state={found.errors || failed.length ? "bad" : "good"} aria-live="polite">
      <button type="button" onClick={() => onOpen("problems")}>
        <Icon name={found.errors ? "stop" : "check"} />
        {found.errors ? plural(found.errors, "error") : "No errors"}{found.warnings > 0 && `, ${plural(found.warnings, "warning")}`}
      </button>
      <button type="button" onClick={() => onOpen("tests")}>
        <span className={css.dots} aria-hidden="true">{tests.slice(0, 24).map((one, index) => <i key={index} data-outcome={one.outcome} />)}</span>
        {isUnreadable ? "Tests wait for the errors" : tests.length === 0 ? "No tests" : failed.length ? `${failed.length} of ${plural(tests.length, "test")} ${failed.length === 1 ? "fails" : "fail"}` : `${plural(tests.length, "test")} proven`}
      </button>
      {worst && <span className={css.worst} title={printable(testStory(worst))}>{printable(testStory(worst))}</span>}
      <span className={css.busy} data-on={isAsking} aria-hidden="true" />
    </footer>
  );
}

const EXAMPLE = `tests:
  - {from: internet, to: db, expect: blocked}
  - {from: web, to: db, service: tcp/5432, expect: allowed}`;

export function TestList({ tests, file, isReady, onOpen }: { tests: readonly TestOutcome[]; file: string; isReady: boolean; onOpen: (file: string, line: number) => void }) {
  if (!isReady) return <Loading />;
  if (tests.length === 0) return <Empty icon="shield" title="No tests yet"><p>Write what must hold, whatever the rules become. It is proven over every pair, and nothing is applied that breaks it.</p><Code text={EXAMPLE} /></Empty>;
  const mine = worstFirst(tests.filter((one) => one.file === file));
  const others = worstFirst(tests.filter((one) => one.file !== file));
  const failed = others.filter(hasFailed);
  return (
    <>
      <ul className={css.told}>{mine.map((one, index) => <Line key={index} test={one} isHere onOpen={onOpen} />)}</ul>
      {mine.length === 0 && <p className="soft">No tests in {printable(file)}.</p>}
      {others.length > 0 && <h3 className={css.sub}>In other files{failed.length === 0 && `: ${count(others.length)} hold`}</h3>}
      <ul className={css.told}>{(failed.length ? failed : others).slice(0, 100).map((one, index) => <Line key={index} test={one} isHere={false} onOpen={onOpen} />)}</ul>
    </>
  );
}

function Line({ test, isHere, onOpen }: { test: TestOutcome; isHere: boolean; onOpen: (file: string, line: number) => void }) {
  const { tone, mark, word } = LOOK[test.outcome];
  return (
    <li>
      <Badge tone={tone} mark={mark}><span className="hidden">{word}</span></Badge>
      <div>
        <p><b>{printable(test.name)}</b> <span className="soft">{test.expect === "blocked" ? "must be stopped" : "must pass"}</span></p>
        <p className={hasFailed(test) ? undefined : "soft"}>{printable(testStory(test))}</p>
        <p className={css.where}><button type="button" className={css.link} onClick={() => onOpen(test.file, test.line)}>{isHere ? `line ${test.line}` : `${printable(test.file)}:${test.line}`}</button></p>
      </div>
    </li>
  );
}
