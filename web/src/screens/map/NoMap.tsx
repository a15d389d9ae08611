// Nothing to draw: what brings something here.

import { Button } from "../../ui/Button";
import { Empty } from "../../ui/Box";
import { Begin } from "../setup/Begin";
import css from "./Map.module.css";

export function NoMap({ isEmpty, onAll }: { isEmpty: boolean; onAll: () => void }) {
  if (!isEmpty) {
    return <Empty icon="search" title="No traffic is like that" actions={<Button onClick={onAll}>Ask about everything</Button>}><p>Nothing that was seen in this time meets labels, service and verdict together.</p></Empty>;
  }
  return (
    <div className={css.begin}>
      <Begin lead={
        <header>
          <h2>Nobody was seen talking yet</h2>
          <p className="soft">The map draws who talks to whom: what agents report, or what a flow log tells. Any of these begins it.</p>
        </header>
      } />
    </div>
  );
}
