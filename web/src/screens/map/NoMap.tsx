// Nothing to draw: what brings something here.

import { Button } from "../../ui/Button";
import { Code, Empty, Steps } from "../../ui/Box";

export function NoMap({ isEmpty, onAll }: { isEmpty: boolean; onAll: () => void }) {
  if (!isEmpty) {
    return <Empty icon="search" title="No traffic is like that" actions={<Button onClick={onAll}>Ask about everything</Button>}><p>Nothing that was seen in this time meets labels, service and verdict together.</p></Empty>;
  }
  return (
    <Empty icon="map" title="Nobody was seen talking yet">
      <p>The map draws who talks to whom: what agents report, or what a flow log tells. Any of these begins it.</p>
      <Steps>
        <b>Let hosts tell</b>
        <Code text="ringfence agent invite web --uses 20 --for 24h" />
        <b>Or import what a network recorded</b>
        <Code text={"ringfence import inventory hosts.csv\nringfence import flows vpc-flow-logs.gz"} />
      </Steps>
    </Empty>
  );
}
