// Charts of one group share the crosshair and the range of time.

/** @typedef {{cursor: number | null, range: [number, number] | null}} Shared */
/** @typedef {(shared: Shared, from: object) => void} Hear */

/** @type {Map<string, {shared: Shared, members: Map<object, Hear>}>} */
const groups = new Map();

/**
 * Join a group; returns the call that leaves it.
 * @param {string} name
 * @param {object} member
 * @param {Hear} hear
 */
export function join(name, member, hear) {
  let group = groups.get(name);
  if (!group) groups.set(name, (group = { shared: { cursor: null, range: null }, members: new Map() }));
  group.members.set(member, hear);
  if (group.shared.range) hear(group.shared, group);
  return () => {
    group.members.delete(member);
    if (!group.members.size) groups.delete(name);
  };
}

/**
 * Tell the others of a group.
 * @param {string} name
 * @param {object} from who says so: it does not hear itself
 * @param {Partial<Shared>} change
 */
export function tell(name, from, change) {
  const group = groups.get(name);
  if (!group) return;
  Object.assign(group.shared, change);
  for (const [member, hear] of group.members) if (member !== from) hear(group.shared, from);
}
