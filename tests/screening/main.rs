//! The distribution screen from outside: fitted by the program, evaluated without allocating.
#![cfg(test)]

#[cfg(test)]
mod allocation;
#[cfg(test)]
mod fitting;
#[cfg(test)]
mod quality;
