//! Seeded random schedules, invariants after every step.
