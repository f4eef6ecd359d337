//! How the list of options becomes their values, their table, and how each is set and read.

macro_rules! mode {
    (Live) => {
        (true, false)
    };
    (Restart) => {
        (false, false)
    };
    (LiveSecret) => {
        (true, true)
    };
    (RestartSecret) => {
        (false, true)
    };
}

macro_rules! check {
    ($value:ident, $min:expr, $max:expr) => {
        if let Some(number) = $value.number()
            && !(i128::from($min)..=i128::from($max)).contains(&number)
        {
            return Err(SetError::Value(format!("argument must be between {} and {}", $min, $max)));
        }
    };
    ($value:ident) => {};
}

macro_rules! options {
    ($($(#[doc = $doc:literal])+ $name:literal $field:ident: $type:ty = $default:expr,
        $([$min:expr, $max:expr],)? $mode:ident;)+) => {
        /// The value of every option.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Values {
            $($(#[doc = $doc])+ pub $field: $type,)+
            /// `rename-command FROM TO`; an empty TO disables the command.
            pub renames: Renames,
            /// `namespace.NAME TOKEN`, by token, as they were at the start.
            pub namespaces: Tokens,
            /// `user NAME MODIFIER…`, as they were at the start.
            pub users: Vec<String>,
        }

        impl Default for Values {
            fn default() -> Self {
                Self {
                    $($field: $default,)+
                    renames: Renames::default(),
                    namespaces: Tokens::default(),
                    users: Vec::new(),
                }
            }
        }

        /// Every option, in the order of the sample file.
        pub const OPTIONS: &[Option_] = &[$(Option_ {
            name: $name,
            doc: concat!($($doc, "\n"),+),
            is_live: mode!($mode).0,
            is_secret: mode!($mode).1,
        }),+];

        impl Values {
            /// Sets one option from text, whether or not it may change at run time.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), SetError> {
                $(if name.eq_ignore_ascii_case($name) {
                    let mut value = self.$field.clone();
                    value.change(text).map_err(SetError::Value)?;
                    check!(value $(, $min, $max)?);
                    self.$field = value;
                    return Ok(());
                })+
                Err(SetError::Unknown)
            }

            /// The text of an option's value.
            pub fn get(&self, name: &str) -> Option<String> {
                $(if name.eq_ignore_ascii_case($name) {
                    return Some(self.$field.render());
                })+
                None
            }
        }
    };
}

pub(super) use {check, mode, options};
