// Where hosts of a pairing profile may have addresses: what is added and taken away, and who was refused, before it is so.

import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { api, told } from "../../api/client";
import { refresh, useWorkloads } from "../../api/queries";
import { isConflict } from "../../parts/conflict";
import { Conflict } from "../../parts/Conflict";
import { Diff, ErrorBox, Loading, Note } from "../../ui/Box";
import { Button } from "../../ui/Button";
import { Area } from "../../ui/Field";
import { Dialog, say, Section } from "../../ui/Over";
import { plural, printable } from "../../words";
import type { Profile } from "./asking";
import { rangesOf } from "./words";

const MOST_REFUSED = 20;

/** A profile, and the tag of what was looked at: a change names it. */
async function tagged(name: string, signal: AbortSignal): Promise<{ profile: Profile; tag: string }> {
  const asked = api.GET("/v1/profiles/{name}", { params: { path: { name } }, signal });
  const profile = await told(asked);
  return { profile, tag: (await asked).response.headers.get("ETag") ?? "" };
}

export function RangesDialog({ name, onClose }: { name: string; onClose: () => void }) {
  const found = useQuery({ queryKey: ["profiles", name], queryFn: ({ signal }) => tagged(name, signal), staleTime: Infinity, gcTime: 0 });
  const [text, setText] = useState<string | null>(null);
  const before = found.data?.profile.ranges ?? [];
  const after = text === null ? { ranges: before, wrong: "" } : rangesOf(text);
  const refused = (useWorkloads("").data?.items ?? []).flatMap((one) => one.refused.filter((claim) => claim.why === "outside").map((claim) => `${one.name}: ${claim.address}`));
  const change = [...before.filter((one) => !after.ranges.includes(one)).map((one) => ({ change: "removed" as const, text: one })), ...after.ranges.filter((one) => !before.includes(one)).map((one) => ({ change: "added" as const, text: one }))];
  const put = useMutation({
    mutationFn: (tag: string) => told(api.POST("/v1/profiles/{name}/ranges", { params: { path: { name }, header: { "If-Match": tag } }, body: { ranges: [...after.ranges] } })),
    onSuccess: () => {
      say(`Hosts of ${name} may have other addresses from now on`);
      void refresh("profiles", "workloads", "workload", "audit");
      onClose();
    },
  });
  const reload = (): void => void found.refetch().then(() => (setText(null), put.reset()));
  const overwrite = (): void => void found.refetch().then(({ data }) => put.mutate(data?.tag ?? ""));
  return (
    <Dialog
      title={`Where hosts of ${printable(name)} may have addresses`} about="What hosts hold, they keep; what they were refused is judged again at once." isWide onClose={onClose}
      foot={<><span className="soft small">{after.wrong}</span><Button onClick={onClose}>Cancel</Button><Button look="primary" isBusy={put.isPending} disabled={after.wrong !== "" || change.length === 0 || isConflict(put.error)} onClick={() => put.mutate(found.data?.tag ?? "")}>Change the ranges</Button></>}
    >
      {found.error && <ErrorBox error={found.error} onRetry={() => void found.refetch()} />}
      {!found.data ? !found.error && <Loading /> : (
        <Area name="Ranges" help="One a line, as 10.1.0.0/16, 2001:db8:7::/48 or 203.0.113.7." rows={6} className="mono" value={text ?? before.join("\n")} onChange={(event) => (setText(event.target.value), put.reset())} />
      )}
      <Section title="What it does">
        {change.length === 0 ? <p className="soft">Nothing changes.</p> : <Diff lines={change} />}
        {refused.length > 0 && <Note>{plural(refused.length, "address", "addresses")} of hosts refused today, outside of the ranges of their profile: {refused.slice(0, MOST_REFUSED).map(printable).join(", ")}{refused.length > MOST_REFUSED && ", …"}</Note>}
      </Section>
      {isConflict(put.error) && <Conflict error={put.error} since={found.dataUpdatedAt}><Button isTight look="primary" onClick={reload}>Take theirs</Button><Button isTight onClick={overwrite}>Overwrite with mine</Button></Conflict>}
      {put.error && !isConflict(put.error) && <ErrorBox error={put.error} />}
    </Dialog>
  );
}
