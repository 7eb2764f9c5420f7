//! `eid init`.

use serde_json::json;

use crate::args::Init;
use crate::cmd::Context;
use crate::failure::Failure;

/// Sets the display name, if one is given, and prints the device key.
///
/// # Errors
/// When the name cannot be stored.
pub async fn run(context: &Context, args: &Init) -> Result<(), Failure> {
    if let Some(name) = &args.name {
        context.node.set_display_name(name).await?;
    }
    let device = context.node.device().to_string();
    context.out.say(&json!({"device": device}), || device.clone())?;
    Ok(())
}
