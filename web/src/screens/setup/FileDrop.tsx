// Choose files, or let them fall here. The field is a file input: the keyboard and screen readers know it.

import { type DragEvent, useState } from "react";
import { Icon } from "../../ui/Icon";
import css from "./Setup.module.css";

export function FileDrop({ label, hint, accept, isMany = false, onFiles }: { label: string; hint: string; accept?: string; isMany?: boolean; onFiles: (files: readonly File[]) => void }) {
  const [isOver, setOver] = useState(false);
  const take = (files: FileList | null): void => {
    const some = [...(files ?? [])].slice(0, isMany ? undefined : 1);
    if (some.length > 0) onFiles(some);
  };
  const drop = (event: DragEvent): void => {
    event.preventDefault();
    setOver(false);
    take(event.dataTransfer.files);
  };
  return (
    <label className={css.drop} data-over={isOver} onDragOver={(event) => (event.preventDefault(), setOver(true))} onDragLeave={() => setOver(false)} onDrop={drop}>
      <Icon name="plus" size={20} />
      <span><b>{label}: choose {isMany ? "files" : "a file"}</b>, or drop {isMany ? "them" : "it"} here</span>
      <small>{hint}</small>
      <input type="file" className="hidden" aria-label={label} multiple={isMany} accept={accept} onChange={(event) => (take(event.target.files), (event.target.value = ""))} />
    </label>
  );
}
