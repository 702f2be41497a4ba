/** The stage by which a progress event says that it is none, but a sentence for the user, in its detail. */
export const noteStage = 'Note';
