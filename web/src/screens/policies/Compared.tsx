// What one version says apart from another: in connections and in text.

import { useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { api, told } from "../../api/client";
import type { Version } from "../../api/types";
import { Impact } from "../../parts/Impact";
import { ErrorBox, Loading } from "../../ui/Box";
import { Drawer, Section } from "../../ui/Over";
import { ago, moment, printable } from "../../words";
import { useVersion } from "./asked";
import { between, Changes } from "./Changes";

interface Props {
  /** 0: against nothing. */
  old: number;
  latest: number;
  version: Version | undefined;
  now: number;
  foot: ReactNode;
  onClose: () => void;
}

export function Compared({ old, latest, version, now, foot, onClose }: Props) {
  const [before, after] = [useVersion(old || null), useVersion(latest)];
  const diff = useQuery({
    queryKey: ["versions", "diff", old, latest],
    queryFn: ({ signal }) => told(api.GET("/v1/versions/{old}/diff/{new}", { params: { path: { old, new: latest } }, signal })),
    enabled: old > 0,
    staleTime: 60_000,
  });
  const error = diff.error ?? before.error ?? after.error;
  const isThere = after.data !== undefined && (old === 0 || before.data !== undefined);
  return (
    <Drawer title={old ? `Version ${latest} against ${old}` : `Version ${latest}`} onClose={onClose} foot={foot} about={version && <p><span title={moment(version.at)}>{ago(version.at, now)}</span> by {printable(version.actor)}</p>}>
      {version?.note && <p>{printable(version.note)}</p>}
      {error && <ErrorBox error={error} />}
      {old > 0 && <Section title="Over the inventory of now">{diff.data ? <Impact of={{ ...diff.data, findings: [] }} nothing="Nothing opens and nothing closes." isTraffic={false} /> : !error && <Loading lines={3} />}</Section>}
      <Section title={old ? "Texts" : "Texts: it was the first"}>{isThere ? <Changes changed={between(before.data?.files ?? {}, after.data?.files ?? {})} /> : !error && <Loading />}</Section>
    </Drawer>
  );
}
