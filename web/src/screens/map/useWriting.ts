// A proposed rule becomes part of the unsaved policies.

import { useState } from "react";
import { ApiError } from "../../api/errors";
import { useDrafts } from "../../parts/drafts";
import { filesOf } from "../../parts/inForce";
import type { EdgeView } from "./asking";

type Proposal = EdgeView["proposals"][number];

/** `isOnDraft`: the proposal was made on top of the drafts there are. */
export function useWriting(isOnDraft: boolean): { write: (proposal: Proposal) => Promise<void>; isBusy: boolean } {
  const { drafts, write } = useDrafts();
  const [isBusy, setBusy] = useState(false);
  const begin = async ({ file, text, base }: Proposal): Promise<void> => {
    if (drafts[file] && !isOnDraft) {
      throw new ApiError(0, "draft-in-the-way", `\`${file}\` has unsaved changes that this proposal does not know`, "switch the map to Draft and write the rule from there");
    }
    setBusy(true);
    try {
      const { files, version } = await filesOf(base);
      write(file, text, { was: files[file] ?? null, version });
    } finally {
      setBusy(false);
    }
  };
  return { write: begin, isBusy };
}
