// Is the watch long enough? In words first, then the figures behind them.

import { Badge } from "../../ui/Badge";
import { Card, Fact, Facts } from "../../ui/Box";
import { count, percent, plural, printable } from "../../words";
import type { Confidence, Recommended } from "./asking";
import { day } from "./Ends";
import css from "./Recommend.module.css";

const HOURS_OF_WEEK = 168;
const MOST_POLICIES = 8;

export function Trust({ told }: { told: Recommended }) {
  const { confidence } = told;
  const isReady = confidence.verdict === "ready";
  return (
    <Card title="Ready to enforce?" tools={isReady ? <Badge tone="good" mark="✓">ready</Badge> : <Badge tone="warning" mark="!">not yet</Badge>}>
      <div className={css.trust}>
        <p>{wordsOf(confidence)}</p>
        {confidence.why_not.length > 0 && (
          <ul className={css.why}>
            {confidence.why_not.map((why, index) => <li key={why}><b>{sentence(printable(why))}</b><span className="soft">{sentence(printable(confidence.next_steps[index] ?? ""))}</span></li>)}
          </ul>
        )}
        <Facts>
          <Fact name="Needs seen">{count(confidence.needs)}, of them {count(confidence.once)} on one day only</Fact>
          <Fact name="Still unseen">about {count(Math.max(0, Math.round(confidence.unseen_needs)))} <span className="soft">at least, estimated</span></Fact>
          <Fact name="New a day">{percent(confidence.unseen_share * 100, 100)} <span className="soft">of what is met</span></Fact>
          <Fact name="False blocks">{Math.max(0, confidence.false_blocks_a_week).toFixed(1)} <span className="soft">a week, if enforced now</span></Fact>
          <Fact name="Of its permits">{percent(told.precision * 100, 100)} <span className="soft">were seen in use</span></Fact>
        </Facts>
        <Calendar of={confidence} />
        {told.by_policy.length > 1 && (
          <ul className={css.policies} aria-label="By policy">
            {told.by_policy.slice(0, MOST_POLICIES).map((one) => <li key={one.subject}><span>{printable(one.subject)}</span>{one.verdict === "ready" ? <Badge tone="good" mark="✓">ready</Badge> : <Badge tone="warning" mark="!" title={one.why_not.join("; ")}>not yet</Badge>}</li>)}
            {told.by_policy.length > MOST_POLICIES && <li className="soft">and {count(told.by_policy.length - MOST_POLICIES)} more, {count(told.by_policy.filter((one) => one.verdict === "ready").length)} of all ready</li>}
          </ul>
        )}
      </div>
    </Card>
  );
}

function Calendar({ of: { calendar } }: { of: Confidence }) {
  const week = calendar.week_hours / HOURS_OF_WEEK;
  return (
    <div className={css.calendar}>
      <p><b>Watched</b> <span className="soft">{day(calendar.first)} to {day(calendar.last)}</span></p>
      <div className={css.meter} role="meter" aria-label="Hours of the week that were watched" aria-valuemin={0} aria-valuemax={HOURS_OF_WEEK} aria-valuenow={calendar.week_hours}><i style={{ width: `${week * 100}%` }} /></div>
      <p className="soft small">{calendar.week_hours} of the week's {HOURS_OF_WEEK} hours · {plural(calendar.days, "day")} · {plural(calendar.nights, "night")} · {plural(calendar.weekends, "weekend")} · {calendar.month_ends ? plural(calendar.month_ends, "turn", "turns") + " of the month" : "no turn of the month"}</p>
    </div>
  );
}

function wordsOf(confidence: Confidence): string {
  if (confidence.needs === 0) return "Nothing was seen yet.";
  if (confidence.verdict === "ready") return "The watch covers the calendar, and almost nothing new turns up: enforcing is not expected to block what is needed.";
  const expected = confidence.false_blocks_a_week;
  if (expected < 1) return "Little that is new turns up, but the watch does not cover what it should.";
  return `Enforced now, about ${plural(Math.round(expected), "need")} that no rule knows would be blocked in the next week.`;
}

const sentence = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
