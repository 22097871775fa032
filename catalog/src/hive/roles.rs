//! Roles: who has which.

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::hive::{
    self, Exception, GrantRevokeRoleRequest, GrantRevokeRoleResponse, GrantRevokeType, InvalidObjectException,
    MetaException, NoSuchObjectException, PrincipalType, RolePrincipalGrant,
};

use super::{Answer, Session, convert};
use crate::model::{ADMIN_ROLE, PUBLIC_ROLE, Principal, PrincipalKind, Role, RoleGrant};

impl Session {
    pub(super) async fn role_names(&self) -> Answer<Vec<String>> {
        Ok(self.store().roles().await?.into_iter().map(|role| role.name).collect())
    }

    pub(super) async fn new_role(&self, args: hive::CreateRoleArgs) -> Answer<bool> {
        let role = args.role.unwrap_or_default();
        let role = Role { name: role.role_name.unwrap_or_default(), owner: role.owner_name, create_time_s: 0 };
        self.store().create_role(&role).await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                InvalidObjectException::new(format!("Role {} already exists.", role.name)).into()
            }
            _ => Exception::from(error),
        })?;
        Ok(true)
    }

    pub(super) async fn remove_role(&self, args: hive::DropRoleArgs) -> Answer<bool> {
        let name = args.role_name.unwrap_or_default();
        if [ADMIN_ROLE, PUBLIC_ROLE].contains(&name.as_str()) {
            return Err(MetaException::new("public,admin roles can't be dropped.").into());
        }
        // One that is not there is as good as dropped, as in a metastore.
        self.store().drop_role(&name).await?;
        Ok(true)
    }

    /// The roles that were given to somebody; a user has `public` too.
    pub(super) async fn roles_of(&self, args: hive::ListRolesArgs) -> Answer<Vec<hive::Role>> {
        let principal = convert::principal_from(args.principal_name, args.principal_type);
        let held = self.store().roles_of(&principal).await?;
        let all = self.store().roles().await?;
        let mut roles: Vec<hive::Role> = Vec::new();
        for grant in held {
            let known = all.iter().find(|role| role.name == grant.role);
            roles.extend(known.map(|role| hive::Role {
                role_name: Some(role.name.clone()),
                create_time: Some(convert::seconds(role.create_time_s)),
                owner_name: role.owner.clone(),
            }));
        }
        if principal.kind == PrincipalKind::User {
            roles.push(hive::Role {
                role_name: Some(PUBLIC_ROLE.to_owned()),
                create_time: Some(0),
                owner_name: Some(PUBLIC_ROLE.to_owned()),
            });
        }
        Ok(roles)
    }

    pub(super) async fn principals_in(
        &self,
        args: hive::GetPrincipalsInRoleArgs,
    ) -> Answer<hive::GetPrincipalsInRoleResponse> {
        let role = args.request.unwrap_or_default().role_name;
        let found = self.store().principals_in_role(&role).await?;
        Ok(hive::GetPrincipalsInRoleResponse { principal_grants: found.into_iter().map(grant_to).collect() })
    }

    pub(super) async fn role_grants(
        &self,
        args: hive::GetRoleGrantsForPrincipalArgs,
    ) -> Answer<hive::GetRoleGrantsForPrincipalResponse> {
        let request = args.request.unwrap_or_default();
        let principal = convert::principal_from(Some(request.principal_name), Some(request.principal_type));
        let found = self.store().roles_of(&principal).await?;
        let mut principal_grants: Vec<RolePrincipalGrant> = found.into_iter().map(grant_to).collect();
        if principal.kind == PrincipalKind::User {
            principal_grants.push(RolePrincipalGrant {
                role_name: Some(PUBLIC_ROLE.to_owned()),
                principal_name: Some(principal.name),
                principal_type: Some(PrincipalType::USER),
                grant_option: Some(false),
                grant_time: Some(0),
                ..RolePrincipalGrant::default()
            });
        }
        Ok(hive::GetRoleGrantsForPrincipalResponse { principal_grants })
    }

    pub(super) async fn give_role(&self, args: hive::GrantRoleArgs) -> Answer<bool> {
        let grantor = args.grantor.map(|name| convert::principal_from(Some(name), args.grantor_type));
        let to = convert::principal_from(args.principal_name, args.principal_type);
        self.give_role_as(RoleGrant {
            role: args.role_name.unwrap_or_default(),
            to,
            grantor,
            grant_option: args.grant_option.unwrap_or_default(),
            added_s: 0,
        })
        .await
    }

    pub(super) async fn take_role(&self, args: hive::RevokeRoleArgs) -> Answer<bool> {
        let from = convert::principal_from(args.principal_name, args.principal_type);
        self.take_role_as(&args.role_name.unwrap_or_default(), &from, false).await
    }

    pub(super) async fn change_role(&self, args: hive::GrantRevokeRoleArgs) -> Answer<GrantRevokeRoleResponse> {
        let request: GrantRevokeRoleRequest = args.request.unwrap_or_default();
        let role = request.role_name.unwrap_or_default();
        let principal = convert::principal_from(request.principal_name, request.principal_type);
        let option = request.grant_option.unwrap_or_default();
        let success = match request.request_type {
            Some(GrantRevokeType::GRANT) => {
                let grantor = request.grantor.map(|name| convert::principal_from(Some(name), request.grantor_type));
                self.give_role_as(RoleGrant { role, to: principal, grantor, grant_option: option, added_s: 0 }).await?
            }
            Some(GrantRevokeType::REVOKE) => self.take_role_as(&role, &principal, option).await?,
            _ => return Err(MetaException::new("Unknown request type for a role: neither grant nor revoke").into()),
        };
        Ok(GrantRevokeRoleResponse { success: Some(success) })
    }

    async fn give_role_as(&self, grant: RoleGrant) -> Answer<bool> {
        let (role, to) = (&grant.role, &grant.to);
        if role == PUBLIC_ROLE {
            let message = "No user can be added to public. Since all users implicitly belong to public role.";
            return Err(MetaException::new(message).into());
        }
        self.store().grant_role(&grant).await.map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => {
                InvalidObjectException::new(format!("Principal {} already has the role {role}", to.name)).into()
            }
            ErrorKind::InvalidInput if to.kind == PrincipalKind::Role => MetaException::new(format!(
                "Cannot grant role {0} to {role} as {role} already belongs to the role {0}. (no cycles allowed)",
                to.name
            ))
            .into(),
            _ => of_role(error, role),
        })?;
        Ok(true)
    }

    async fn take_role_as(&self, role: &str, from: &Principal, option_only: bool) -> Answer<bool> {
        self.store().revoke_role(role, from, option_only).await.map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => {
                MetaException::new(format!("User {} does not have grant option with role {role}", from.name)).into()
            }
            _ => of_role(error, role),
        })?;
        Ok(true)
    }
}

fn of_role(error: Error, role: &str) -> Exception {
    if error.kind() == ErrorKind::NotFound {
        NoSuchObjectException::new(format!("{role} role can not be found.")).into()
    } else {
        error.into()
    }
}

fn grant_to(grant: RoleGrant) -> RolePrincipalGrant {
    let (grantor, kind) = grant.grantor.map(|grantor| (grantor.name, grantor.kind)).unzip();
    RolePrincipalGrant {
        role_name: Some(grant.role),
        principal_name: Some(grant.to.name),
        principal_type: Some(convert::kind_to(grant.to.kind)),
        grant_option: Some(grant.grant_option),
        grant_time: Some(convert::seconds(grant.added_s)),
        grantor_name: grantor,
        grantor_principal_type: kind.map(convert::kind_to),
    }
}
