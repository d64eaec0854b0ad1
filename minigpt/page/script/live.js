/* The live page; a written file has nobody to ask. */
export function connectLive() {}
