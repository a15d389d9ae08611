// One rule: what it says, what it was used for, what to do about it.

import type { Rule } from "../../api/types";
import { Badge } from "../../ui/Badge";
import { Fact, Facts, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Drawer, Section } from "../../ui/Over";
import { ago, count, moment, plural, printable } from "../../words";
import { ACTION } from "./Rules";
import { adviceOn } from "./words";

interface Props {
  rule: Rule;
  days: number;
  now: number;
  onClose: () => void;
  onText: () => void;
}

export function RuleDrawer({ rule, days, now, onClose, onText }: Props) {
  const advice = adviceOn(rule, days);
  const list = (words: readonly string[]) => words.map((word) => <div key={word} className="mono">{printable(word)}</div>);
  return (
    <Drawer title={printable(rule.rule)} about={<Badge {...ACTION[rule.action]}>{rule.action}</Badge>} onClose={onClose} foot={<Button look={advice ? "primary" : "plain"} icon="policy" onClick={onText}>{advice ? "Tighten it" : "Show the text"}</Button>}>
      {advice && <Note>{advice}</Note>}
      <Section title="What it says">
        <Facts>
          <Fact name="From">{list(rule.sources)}</Fact>
          <Fact name="To">{list(rule.destinations)}</Fact>
          <Fact name="On">{rule.services.length ? list(rule.services) : "every service"}</Fact>
          {rule.until && <Fact name="Until">{rule.until}</Fact>}
          {rule.because && <Fact name="Because">{printable(rule.because)}</Fact>}
          <Fact name="Written in"><span className="mono">{printable(rule.file)}:{rule.line}</span></Fact>
        </Facts>
      </Section>
      <Section title={`Used in ${plural(days, "day")}`}>
        <Facts>
          <Fact name="Connections">{count(rule.connections)}</Fact>
          <Fact name="Last">{rule.last ? <span title={moment(rule.last)}>{ago(rule.last, now)}</span> : "never"}</Fact>
          <Fact name="Sources">{count(rule.sources_used)} of {plural(rule.source_members, "workload")} used it</Fact>
          <Fact name="Destinations">{count(rule.destinations_used)} of {plural(rule.destination_members, "workload")} were reached</Fact>
        </Facts>
      </Section>
    </Drawer>
  );
}
