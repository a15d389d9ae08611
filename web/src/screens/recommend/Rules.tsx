// The proposed rules, those that cover most first; each accepted or not, each with what stands behind it.

import { Badge } from "../../ui/Badge";
import { Code, Fact, Facts } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Check } from "../../ui/Field";
import { Icon } from "../../ui/Icon";
import { brief, count, percent, plural, printable } from "../../words";
import { accepts, byWeight, type Choice, type Covered } from "./accepting";
import type { Recommended, RuleEvidence } from "./asking";
import { days, Ends } from "./Ends";
import css from "./Recommend.module.css";
import { plainText } from "./rule";

interface Props {
  told: Recommended;
  choice: Choice;
  covered: Covered;
  opened: string;
  onOpen: (rule: string) => void;
  onFlip: (rule: string) => void;
  onAll: (isAll: boolean) => void;
}

export function Rules({ told, choice, covered, opened, onOpen, onFlip, onAll }: Props) {
  return (
    <section className={css.sheet} aria-label="Proposed rules">
      <header className={css.rulesHead}>
        <b>{count(covered.rules)} of {plural(told.rules.length, "rule")} accepted</b>
        <Button isTight disabled={covered.rules === told.rules.length} onClick={() => onAll(true)}>Accept all</Button>
        <Button isTight disabled={covered.rules === 0} onClick={() => onAll(false)}>Reject all</Button>
      </header>
      <ul className={css.rules}>
        {byWeight(told.rules).map((one) => (
          <Rule key={one.rule} one={one} wanted={covered.wanted} isOn={accepts(choice, one.rule)} isOpen={opened === one.rule} onFlip={() => onFlip(one.rule)} onOpen={() => onOpen(opened === one.rule ? "" : one.rule)} />
        ))}
      </ul>
    </section>
  );
}

function Rule({ one, wanted, isOn, isOpen, onFlip, onOpen }: { one: RuleEvidence; wanted: number; isOn: boolean; isOpen: boolean; onFlip: () => void; onOpen: () => void }) {
  const { evidence } = one;
  const name = printable(one.rule);
  return (
    <li className={css.rule} data-on={isOn}>
      <Check label={`Accept ${name}`} isOn={isOn} onChange={onFlip} />
      <div className={css.said}>
        <Ends text={one.text} />
        <p className="soft small">{name}{evidence.is_general && <> <Badge title="Wider than what was seen, on purpose: a service that everybody needs.">core service</Badge></>}</p>
      </div>
      <dl className={css.proof}>
        <div><dt>connections</dt><dd>{brief(evidence.connections)} <span className="soft">+{percent(evidence.connections, wanted)}</span></dd></div>
        <div><dt>peers</dt><dd>{peers(evidence.sources, evidence.sources_of)} → {peers(evidence.destinations, evidence.destinations_of)}</dd></div>
        <div className={css.spare}><dt>seen</dt><dd>{days(evidence.first, evidence.last)}</dd></div>
        <div className={css.spare}><dt>used</dt><dd>{one.utilisation === null ? <span className="soft">open</span> : percent(one.utilisation * 100, 100)}</dd></div>
      </dl>
      <Button look="quiet" isTight icon={isOpen ? "down" : "right"} aria-expanded={isOpen} aria-label={`Evidence of ${name}`} onClick={onOpen} />
      {isOpen && <Evidence one={one} />}
    </li>
  );
}

const peers = (seen: number, of: number | null): string => (of === null ? `${count(seen)} addr.` : seen === of ? `all ${count(of)}` : `${count(seen)} of ${count(of)}`);

function Evidence({ one }: { one: RuleEvidence }) {
  const { evidence } = one;
  return (
    <div className={css.evidence}>
      <Facts>
        <Fact name="Seen">{plural(evidence.connections, "connection")} on {plural(evidence.days, "day")}, {days(evidence.first, evidence.last)}</Fact>
        <Fact name="Permits">{evidence.permitted === null ? "addresses that nobody of ours holds: open-ended" : `${plural(evidence.permitted, "pair")} on its services; ${count(evidence.seen)} of them were seen`}</Fact>
        <Fact name="Busiest">
          <ul>{[...new Set(one.pairs)].map((pair) => <li key={pair} className={css.pair}>{printable(pair).split(" -> ").flatMap((end, at) => (at ? [<Icon key={at} name="right" size={12} />, end] : [end]))}</li>)}</ul>
        </Fact>
      </Facts>
      <Code text={plainText(one.text)} />
    </div>
  );
}
