//! Roles and privileges of a metastore.

use tereza_runtime::Result;
use tereza_thrift::hive::{
    GetPrincipalsInRoleArgs, GetPrincipalsInRoleRequest, GetRoleNamesArgs, HiveObjectPrivilege, ListPrivilegesArgs,
    RolePrincipalGrant,
};

use super::super::convert;
use super::super::privileges::{grants_from, object_to};
use super::{Remote, failed};
use crate::model::{Grant, Role, RoleGrant, Securable};

impl Remote {
    /// All roles. The interface does not say who made them.
    pub(super) async fn role_names(&self) -> Result<Vec<Role>> {
        let found = self.ask(&GetRoleNamesArgs {}).await.map_err(failed)?;
        Ok(found.into_iter().map(|name| Role { name, owner: None, create_time_s: 0 }).collect())
    }

    /// Who was given a role.
    pub(super) async fn principals_in_role(&self, role: &str) -> Result<Vec<RoleGrant>> {
        let request = GetPrincipalsInRoleRequest { role_name: role.to_owned() };
        let found = self.ask(&GetPrincipalsInRoleArgs { request: Some(request) }).await.map_err(failed)?;
        let grant = |grant: RolePrincipalGrant| RoleGrant {
            role: role.to_owned(),
            to: convert::principal_from(grant.principal_name, grant.principal_type),
            grantor: grant.grantor_name.map(|name| convert::principal_from(Some(name), grant.grantor_principal_type)),
            grant_option: grant.grant_option.unwrap_or_default(),
            added_s: grant.grant_time.unwrap_or_default().into(),
        };
        Ok(found.principal_grants.into_iter().map(grant).collect())
    }

    /// Who may do what on something.
    pub(super) async fn privileges_on(&self, on: &Securable) -> Result<Vec<Grant>> {
        let args = ListPrivilegesArgs { hive_object: Some(object_to(on.clone())), ..ListPrivilegesArgs::default() };
        let found = self.ask(&args).await.map_err(failed)?;
        let grants = |privilege: HiveObjectPrivilege| {
            let to = convert::principal_from(privilege.principal_name, privilege.principal_type);
            grants_from(on.clone(), to, privilege.grant_info.unwrap_or_default(), privilege.authorizer)
        };
        Ok(found.into_iter().flat_map(grants).collect())
    }
}
