// "Write a rule for this": the rule as the recommender writes it, into a draft of the policy it belongs to.

import { useState } from "react";
import { useNavigate } from "react-router";
import { SCREENS } from "..";
import { Code, ErrorBox, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { say, Section } from "../../ui/Over";
import { plural, printable } from "../../words";
import type { EdgeView } from "./asking";
import css from "./Map.module.css";
import { useWriting } from "./useWriting";

type Proposal = EdgeView["proposals"][number];

interface Props {
  proposals: readonly Proposal[];
  whyNot: readonly string[];
  uncovered: number;
  isDraft: boolean;
  /** Not while looking at what somebody else proposed: the rule would take all of that along. */
  mayWrite: boolean;
}

export function Proposals({ proposals, whyNot, uncovered, isDraft, mayWrite }: Props) {
  return (
    <Section title="No rule speaks of it">
      <p>No rule {isDraft && "of the draft "}speaks of {plural(uncovered, "connection")} here.{proposals.length > 0 && " A rule that would:"}</p>
      {proposals.map((one) => <Proposed key={`${one.file} ${one.policy}`} proposal={one} isDraft={isDraft} mayWrite={mayWrite} />)}
      {whyNot.length > 0 && <Note>{whyNot.map((why) => <p key={why}>{printable(why)}</p>)}</Note>}
    </Section>
  );
}

function Proposed({ proposal, isDraft, mayWrite }: { proposal: Proposal; isDraft: boolean; mayWrite: boolean }) {
  const navigate = useNavigate();
  const { write, isBusy } = useWriting(isDraft);
  const [error, setError] = useState<unknown>(null);
  const hasEditor = SCREENS.some((screen) => screen.path === "/policies");
  const begin = async (): Promise<void> => {
    if (!hasEditor) {
      await navigator.clipboard.writeText(proposal.rules);
      return say(`Copied: it belongs under rules of ${proposal.file}`);
    }
    await write(proposal);
    say(`${proposal.file} has the rule, as a draft`);
    void navigate(`/policies?${new URLSearchParams({ file: proposal.file })}`);
  };
  return (
    <div className={css.proposal}>
      <p><b>{printable(proposal.policy)}</b> <span className="soft">{printable(proposal.file)}{proposal.is_new && ", a new policy"}</span></p>
      <Code text={proposal.rules} />
      {!mayWrite ? <p className="soft small">It would be on top of the proposal. Look at what is active to write it.</p> : <div><Button look="primary" isTight icon="plus" isBusy={isBusy} onClick={() => void begin().catch(setError)}>Write a rule for this</Button></div>}
      {error !== null && <ErrorBox error={error} />}
    </div>
  );
}
