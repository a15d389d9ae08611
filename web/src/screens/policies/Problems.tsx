// What the language and lint find, the open file first; each with its next step and, where the help knows it, the fix.

import type { Finding } from "../../api/types";
import type { Files } from "../../parts/drafting";
import { Badge, type Tone } from "../../ui/Badge";
import { Empty, Loading } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { plural, printable } from "../../words";
import { type Fix, fixOf } from "./editor/fixes";
import css from "./Policies.module.css";

const LOOK: Record<Finding["severity"], { tone: Tone; mark: string }> = { error: { tone: "bad", mark: "✕" }, warning: { tone: "warning", mark: "!" }, info: { tone: "plain", mark: "i" } };

interface Props {
  findings: readonly Finding[];
  file: string;
  texts: Files;
  isReady: boolean;
  more: number;
  onOpen: (file: string, line: number) => void;
  onFix: ((fix: Fix) => void) | undefined;
}

export function Problems({ findings, file, texts, isReady, more, onOpen, onFix }: Props) {
  if (!isReady) return <Loading />;
  if (findings.length === 0) return <Empty icon="check" title="Nothing to find fault with"><p>The language, the inventory and lint agree with every policy.</p></Empty>;
  const mine = findings.filter((one) => one.where?.file === file);
  const others = findings.filter((one) => one.where?.file !== file);
  const list = (told: readonly Finding[]) => (
    <ul className={css.told}>
      {told.map((one, index) => <Line key={index} finding={one} isHere={one.where?.file === file} fix={one.where?.file === file && onFix ? fixOf(one, texts[file] ?? "") : null} onOpen={onOpen} onFix={onFix} />)}
    </ul>
  );
  return (
    <>
      {mine.length > 0 && list(mine)}
      {mine.length === 0 && <p className="soft">Nothing in {printable(file)}.</p>}
      {others.length > 0 && <><h3 className={css.sub}>In other files</h3>{list(others)}</>}
      {more > 0 && <p className="soft small">and {plural(more, "finding")} more</p>}
    </>
  );
}

function Line({ finding, isHere, fix, onOpen, onFix }: { finding: Finding; isHere: boolean; fix: Fix | null; onOpen: (file: string, line: number) => void; onFix: ((fix: Fix) => void) | undefined }) {
  const { file = "", line = 0 } = finding.where ?? {};
  return (
    <li>
      <Badge {...LOOK[finding.severity]}><span className="hidden">{finding.severity}</span></Badge>
      <div>
        <p>{printable(finding.message)}</p>
        {finding.help && <p className="soft">{printable(finding.help)}</p>}
        <p className={css.where}>
          {file && <button type="button" className={css.link} onClick={() => onOpen(file, line)}>{isHere ? `line ${line}` : `${printable(file)}:${line}`}</button>}
          <code className="soft">{finding.code}</code>
          {fix && onFix && <Button isTight onClick={() => onFix(fix)}>Use {printable(fix.insert)}</Button>}
        </p>
      </div>
    </li>
  );
}
