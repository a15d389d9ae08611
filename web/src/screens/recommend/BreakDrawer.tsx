// Why one kind of traffic would stop: both ends' verdicts under the accepted rules.

import { Explanation } from "../../parts/Explanation";
import { useDrafted } from "../../parts/inForce";
import { Fact, Facts, Loading } from "../../ui/Box";
import { Dialog, Section } from "../../ui/Over";
import { count, moment, printable } from "../../words";
import type { Break, Recommended } from "./asking";

export function BreakDrawer({ one, files, onClose }: { one: Break; files: Recommended["files"]; onClose: () => void }) {
  const draft = useDrafted(Object.fromEntries(files.map((file) => [file.file, file.text])));
  const [source, destination] = one.example.split(" -> ");
  return (
    <Dialog title={`${printable(one.source)} → ${printable(one.destination)}`} about={printable(one.service)} onClose={onClose} isWide>
      <Facts>
        <Fact name="Seen">{count(one.connections)} connections, {moment(one.first)} to {moment(one.last)}</Fact>
        <Fact name="Peers">{count(one.sources)} to {count(one.destinations)}</Fact>
        {one.hint && <Fact name="To let it pass">{printable(one.hint)}</Fact>}
      </Facts>
      <Section title="For example, under the accepted rules">
        {draft && source && destination ? <Explanation of={{ source, destination, service: one.service }} under={draft} asMode="enforce" /> : <Loading lines={3} />}
      </Section>
    </Dialog>
  );
}
